"""The U-Net: sizes, skip connections, what its loss is, and that prediction sees what training saw."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from maskseg.core.errors import InputError
from maskseg.models.config import load_config
from maskseg.projects.unet import predictor as pixels
from maskseg.projects.unet.network import UNet
from maskseg.projects.unet.predictor import PixelPredictor


@pytest.fixture(autouse=True)
def one_thread():
    """Sums in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def config(**changes):
    values = {"MODEL__UNET__CHANNELS": "[4, 6, 8]", "MODEL__UNET__CHANNEL_RATE": 1.0, **changes}
    pairs = [text for key, value in values.items() for text in (key.replace("__", "."), str(value))]
    return load_config("nuclei_unet", ["MODEL.DEVICE", "cpu", *pairs])


def network(**changes):
    torch.manual_seed(0)
    return build_model(config(**changes)).eval()


@pytest.mark.parametrize(("rate", "widths"), [(0.5, [16, 32, 64, 128, 256]), (2.0, [64, 128, 256, 512, 1024])])
def test_the_rate_multiplies_the_channels_of_each_level(rate, widths):
    channels = "[32, 64, 128, 256, 512]"
    with torch.device("meta"):
        model = UNet(config(MODEL__UNET__CHANNELS=channels, MODEL__UNET__CHANNEL_RATE=rate))
    assert [block[-1].out_channels for block in model.down] == widths
    # Each level on the way up takes its own features of the way down as well.
    assert [block[0].in_channels for block in model.merge] == [2 * width for width in widths[:-1]]
    assert [block[-1].out_channels for block in model.merge] == widths[:-1]


@pytest.mark.parametrize("shape", [(64, 64), (64, 80), (4, 8)])
def test_each_pixel_has_its_odds(shape):
    logits = network().logits(torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8))
    assert logits.shape == (2, 1, *shape)
    assert logits.dtype == torch.float32


def test_every_level_hands_its_features_over():
    model = network()
    image = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    whole = model.logits(image)
    for level, block in enumerate(model.merge):
        weight = block[0].weight
        with torch.no_grad():
            kept = weight.clone()
            weight[:, : weight.shape[1] // 2] = 0
        assert not torch.allclose(model.logits(image), whole), f"skip connection of level {level}"
        with torch.no_grad():
            weight.copy_(kept)


def test_the_loss_is_binary_cross_entropy_over_all_pixels():
    model = network()
    rng = np.random.default_rng(0)
    batch = [
        {
            "image": torch.from_numpy(rng.integers(0, 256, (3, 16, 16), np.uint8)),
            "target": torch.from_numpy(rng.integers(0, 2, (16, 16), np.uint8)),
        }
        for _ in range(2)
    ]
    p = model.logits(torch.stack([sample["image"] for sample in batch]))[:, 0].detach().sigmoid().double()
    y = torch.stack([sample["target"] for sample in batch]).double()
    expected = -(y * p.log() + (1 - y) * (1 - p).log()).mean()
    assert model(batch).keys() == {"loss_mask"}
    assert model(batch)["loss_mask"].item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.slow
def test_a_large_image_in_windows_is_the_same(monkeypatch):
    predictor = PixelPredictor(config(INPUT__NORMALIZE="off"), network())
    image = np.random.default_rng(0).integers(0, 256, (290, 330, 3), np.uint8)
    with torch.no_grad():
        whole = predictor.probability(image)
        monkeypatch.setattr(pixels, "_CORE", 64)
        # Three levels see less than five.
        monkeypatch.setattr(pixels, "_CONTEXT", 32)
        cut = predictor.probability(image)
        assert whole.shape == (290, 330)
        assert np.allclose(cut, whole, atol=1e-6)
        monkeypatch.setattr(pixels, "_CONTEXT", 4)
        assert not np.allclose(predictor.probability(image), whole, atol=1e-6), "the context is needed"


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["flip", "d4"])
def test_with_views_a_mirrored_image_has_mirrored_instances(tta):
    rules = {"POSTPROCESS__MIN_AREA": 1, "POSTPROCESS__CLOSE": False, "POSTPROCESS__FILL_HOLES": False}
    rules["INPUT__NORMALIZE"] = "off"  # noise is kept dim otherwise
    image = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    median = float(np.median(PixelPredictor(config(**rules), network()).probability(image)))
    predictor = PixelPredictor(config(**rules, POSTPROCESS__MASK_THRESHOLD=median), network())

    def found(image, tta):
        return predictor.segment(np.ascontiguousarray(image), tta).to_labels() > 0

    assert found(image, tta).any()
    assert np.array_equal(found(image, tta), found(image[:, ::-1], tta)[:, ::-1])
    assert not np.array_equal(found(image, "none"), found(image[:, ::-1], "none")[:, ::-1])


@pytest.mark.parametrize("key", ["LONG_SIDE", "AUG.WINDOW"])
def test_a_size_that_the_levels_do_not_divide_is_one_line(key):
    with pytest.raises(InputError, match=rf"INPUT\.{key} is 90; give a multiple of 4"):
        build_model(config(**{f"INPUT__{key.replace('.', '__')}": 90}))
