"""What the U-Net of ultrasound frames adds to that of nuclei: its loss, its fixed size, one nerve a frame."""

import numpy as np
import pytest
import tifffile
import torch

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts
from maskseg.models.config import load_config
from maskseg.projects.ultrasound.data import convert_ultrasound
from maskseg.projects.unet.instances import instances
from maskseg.projects.unet.network import dice_loss
from maskseg.projects.unet.predictor import on_canvas
from maskseg.projects.unet.samples import PixelSamples, validation_sample

SURE = 50.0


def logits(mask):
    return torch.where(mask, SURE, -SURE)


@pytest.mark.parametrize(
    ("true", "found", "common", "loss"),
    [(0, 0, 0, 0.0), (4, 4, 4, 0.0), (4, 0, 0, 1 - 1 / 5), (0, 4, 0, 1 - 1 / 5), (3, 5, 2, 1 - 5 / 9)],
)
def test_the_loss_is_one_less_the_dice_with_a_pixel_added(true, found, common, loss):
    truth, prediction = torch.zeros(2, 1, 4, 6, dtype=torch.bool), torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    truth.view(-1)[:true] = True
    prediction.view(-1)[true - common : true - common + found] = True
    assert dice_loss(logits(prediction), truth.float()).item() == pytest.approx(loss, abs=1e-6)


def test_a_step_down_the_loss_finds_more_of_the_nerve_and_less_of_the_rest():
    target = torch.zeros(1, 1, 6, 6)
    target[..., 2:4, 2:5] = 1
    given = torch.zeros_like(target, requires_grad=True)
    dice_loss(given, target).backward()
    assert (given.grad[target == 1] < 0).all()
    assert (given.grad[target == 0] > 0).all()


def test_one_nerve_a_frame_the_largest_component():
    probability = np.zeros((20, 30), np.float32)
    probability[2:5, 2:5] = 0.9
    probability[10:16, 10:20] = 0.8
    found = instances(probability, 0.5, "largest", 0.8)
    assert found.boxes.tolist() == [[10, 10, 20, 16]]
    assert found.scores == pytest.approx([0.8])
    assert len(instances(np.zeros((20, 30), np.float32), 0.5, "largest", 0.8)) == 0


@pytest.mark.parametrize("size", ["[64]", "[64, 81]", "[0, 80]", "[64, 80, 3]"])
def test_a_size_that_the_network_cannot_halve_is_one_line(size):
    with pytest.raises(InputError, match=r"INPUT.SIZE is .*; give height and width, multiples of 16"):
        load_config("ultrasound_unet", ["INPUT.SIZE", size])


def test_a_long_side_beside_a_size_is_one_line_and_not_passed_over():
    with pytest.raises(InputError, match=r"INPUT.LONG_SIDE: images have the INPUT.SIZE \(64, 80\)"):
        load_config("ultrasound_unet", ["INPUT.LONG_SIDE", "128"])
    assert load_config("ultrasound_unet", ["INPUT.SIZE", "[96, 128]"]).INPUT.LONG_SIDE == 128


@pytest.fixture
def records(tmp_path):
    """A frame whose nerve is all that is bright."""
    frame = np.full((105, 145), 20, np.uint8)
    frame[30:60, 40:90] = 220
    (tmp_path / "source").mkdir()
    tifffile.imwrite(tmp_path / "source" / "1_1.tif", frame)
    tifffile.imwrite(tmp_path / "source" / "1_1_mask.tif", np.where(frame > 128, 255, 0).astype(np.uint8))
    convert_ultrasound(tmp_path / "source", tmp_path / "data", progress=False)
    return dataset_dicts(str(tmp_path / "data"))


@pytest.mark.parametrize("size", [(64, 80), (96, 48)])
def test_samples_have_the_size_asked_for_and_their_targets_lie_on_the_nerve(records, size):
    cfg = load_config("ultrasound_unet", ["INPUT.SIZE", str(list(size))])
    samples = PixelSamples(cfg, records)
    drawn = [samples[position, 0] for position in range(8)]
    assert len({sample["image"].numpy().tobytes() for sample in drawn}) == 8
    for sample in [*drawn, validation_sample(cfg, records[0])]:
        assert sample["image"].shape == (3, *size)
        bright, target = sample["image"][0].numpy() > 128, sample["target"].numpy() > 0
        assert 2 * (bright & target).sum() / (bright.sum() + target.sum()) > 0.93


def test_prediction_sees_the_whole_frame_in_the_size_asked_for():
    frame = np.random.default_rng(0).integers(0, 255, (105, 145, 3), np.uint8)
    canvas, shape = on_canvas(frame, load_config("ultrasound_unet"))
    assert canvas.shape == (64, 80, 3)
    assert shape == (64, 80)
