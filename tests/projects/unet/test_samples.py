"""Samples of a U-Net: the foreground lies where the image has it, and what touches is split."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_layers
from maskseg.models import tasks
from maskseg.models.config import load_config
from maskseg.projects.unet.samples import PixelSamples, foreground, validation_sample
from maskseg.training.hooks import validation_losses


def config(**changes):
    values = {
        "INPUT__LONG_SIDE": 64,
        "INPUT__AUG__WINDOW": 64,
        "INPUT__NORMALIZE": "off",
        "INPUT__AUG__CONTRAST": 0.0,
        "INPUT__AUG__BRIGHTNESS": 0.0,
        "INPUT__AUG__GAMMA": 0.0,
        "DATALOADER__CACHE_DIR": "''",
        **changes,
    }
    pairs = [text for key, value in values.items() for text in (key.replace("__", "."), str(value))]
    return load_config("nuclei_unet", ["MODEL.DEVICE", "cpu", *pairs])


@pytest.mark.parametrize(("side", "shrink"), [(64, False), (128, False), (32, True)])
def test_the_target_lies_on_the_nuclei_of_the_image(dataset, side, shrink):
    # Upright, so that a shift of the target would be the same in all samples.
    upright = {"INPUT__AUG__ROTATE": 0.0, "INPUT__AUG__FLIP": False, "INPUT__AUG__QUARTER_TURNS": False}
    cfg = config(INPUT__LONG_SIDE=side, INPUT__SHRINK=shrink, **upright)
    records = dataset_dicts(str(dataset))
    samples = tasks.part(cfg, "samples")(cfg, records)
    shifts, overlaps = [], []
    for position in range(18):
        sample = samples[position, position % 9]
        assert sample["image"].shape == (3, 64, 64)
        assert sample["target"].dtype == torch.uint8
        # Nuclei are bright on black.
        bright, target = sample["image"][0].numpy() > 36, sample["target"].numpy() > 0
        if target.sum() > 50:
            overlaps.append((bright & target).sum() / (bright | target).sum())
            shifts.append(np.argwhere(bright).mean(axis=0) - np.argwhere(target).mean(axis=0))
        assert sample["image_id"] == records[position % 9]["image_id"]
    assert len(overlaps) > 10
    assert np.mean(overlaps) > 0.8
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.15


def test_the_same_position_is_the_same_sample(dataset):
    records = dataset_dicts(str(dataset))
    one, other = PixelSamples(config(), records), PixelSamples(config(), records)
    assert all(torch.equal(one[3, 1][key], other[3, 1][key]) for key in ("image", "target"))
    assert not torch.equal(one[3, 1]["image"], one[4, 1]["image"])


def test_what_is_kept_is_as_small_as_the_network_sees_it(dataset):
    records = dataset_dicts(str(dataset))
    kept = PixelSamples(config(INPUT__LONG_SIDE=32, INPUT__SHRINK=True), records).images
    assert {kept[index].shape for index in range(len(records))} == {(24, 32, 3)}
    # Small images are not enlarged before the warp, which would only take room.
    kept = PixelSamples(config(INPUT__LONG_SIDE=128, INPUT__SHRINK=True), records).images
    assert kept[0].shape == (48, 64, 3)


def test_masks_of_another_size_than_the_image_are_one_line(dataset):
    record = dataset_dicts(str(dataset))[0]
    with pytest.raises(InputError, match=r"image0\.png: its masks are of another size") as caught:
        PixelSamples(config(), [{**record, "height": 50}])[0, 0]
    assert "\n" not in str(caught.value)


def test_validation_sees_the_image_at_the_top_left_of_its_canvas(dataset):
    record = dataset_dicts(str(dataset))[0]
    sample = validation_sample(config(), record)
    image, layers = load_layers(record)
    assert np.array_equal(sample["image"].numpy()[:, :48].transpose(1, 2, 0), image)
    assert np.array_equal(sample["target"].numpy()[:48], layers[0] > 0)
    assert sample["image"].shape == (3, 64, 64)
    assert not sample["target"][48:].any() and not sample["image"][:, 48:].any()


def test_the_loss_in_validation_is_of_the_network_that_predicts_and_leaves_it_as_it_is(dataset):
    cfg = config(MODEL__UNET__CHANNELS="[4, 8]", MODEL__UNET__CHANNEL_RATE=1.0)
    model = build_model(cfg).train()
    records = dataset_dicts(f"{dataset}:dev")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    losses = validation_losses(cfg, model, records)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert validation_losses(cfg, model, records[::-1]) == pytest.approx(losses)
    model.eval()
    with torch.no_grad():
        single = [float(model([validation_sample(cfg, record)])["loss_mask"]) for record in records]
    assert losses["loss_mask"] == losses["total_loss"] == pytest.approx(np.mean(single), rel=1e-5)


@pytest.mark.parametrize("kind", [np.uint16, np.int32])
def test_where_two_nuclei_touch_there_is_background(kind):
    labels = np.zeros((1, 12, 20), kind)
    labels[0, 2:10, 2:8], labels[0, 2:10, 8:14], labels[0, 2:10, 15:18] = 1, 2, 3
    found = foreground(labels, (12, 20))
    expected = labels[0] > 0
    expected[2:10, 7:9] = False
    # The third has a pixel of background beside it already.
    assert np.array_equal(found, expected)
    assert cv2.connectedComponents(found)[0] == 4
    # The labels of other layers count as well.
    layers = np.concatenate([np.where(labels == 2, 0, labels), np.where(labels == 2, labels, 0)])
    assert np.array_equal(foreground(layers, (12, 20)), expected)
    assert not foreground(np.zeros((1, 12, 20), kind), (6, 10)).any()
    assert foreground(labels, (24, 40)).shape == (24, 40)
