"""Where the memory of a GPU is too small: fewer images at once, then tiles, each said once; by a stand-in."""

import logging

import cv2
import numpy as np
import pytest
import torch

from maskseg.imaging.finding import find_images
from maskseg.inference.batching import say_once
from maskseg.inference.run import predict_files
from maskseg.inference.tile_grid import Tiles
from tests.inference.test_predictor import predictor
from tests.inference.test_tiling import UNSCALED, Marked, marks, scored


class Small(Marked):
    """Takes so many pixels at once and no more."""

    def __init__(self, most, error=torch.OutOfMemoryError):
        super().__init__()
        self.most, self.error, self.seen = most, error, []

    def inference(self, samples, do_postprocess):
        pixels = sum(sample["image"][0].numel() for sample in samples)
        if pixels > self.most:
            raise self.error
        self.seen.append(pixels)
        return [found for sample in samples for found in super(Small, self).inference([sample], do_postprocess)]


def model_of(network):
    model = predictor(network, *UNSCALED)
    model.tiles = Tiles(side=128, overlap=68)
    return model


@pytest.fixture(autouse=True)
def unsaid():
    say_once.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_an_image_that_is_too_large_for_the_memory_is_predicted_in_tiles_with_the_same_result(error, caplog):
    image = marks(np.random.default_rng(5), (400, 420), 300)
    whole = model_of(Small(10**9)).segment(image)
    network = Small(350 * 350, error)
    model = model_of(network)
    with caplog.at_level(logging.WARNING):
        found, again = model.segment(image), model.segment(image)
    assert len(whole) > 80 and scored(found) == scored(whole) == scored(again)
    assert len(network.seen) > 8
    said = [record.message for record in caplog.records if "memory" in record.message]
    assert len(said) == 1 and "in tiles" in said[0]


@pytest.mark.slow
def test_several_images_go_one_at_a_time_and_only_the_large_one_in_tiles(caplog):
    rng = np.random.default_rng(6)
    images = [marks(rng, (160, 160), 30), marks(rng, (400, 420), 300), marks(rng, (160, 160), 30)]
    expected = [model_of(Small(10**9)).segment(image) for image in images]
    network = Small(350 * 350)
    with caplog.at_level(logging.WARNING):
        found = model_of(network).segment_batch(images)
    assert [scored(one) for one in found] == [scored(one) for one in expected]


@pytest.mark.slow
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_tiles_that_are_too_large_for_the_memory_are_smaller_with_the_same_result(error, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("maskseg.inference.tiling.SMALL_SIDE", 128)
    image = marks(np.random.default_rng(7), (600, 700), 400)
    cv2.imwrite(str(tmp_path / "a.png"), image[..., ::-1])
    files = find_images([tmp_path / "a.png"])

    def run(network, side, out):
        model = model_of(network)
        model.tiles = tiles = Tiles(side=side, overlap=68, large=100_000)
        assert predict_files(model, files, tmp_path / out, ["labels", "geojson"], tiles=tiles) == []
        return scored(model.segment(image))

    small, large = Small(10**9), Small(350 * 350, error)
    expected = run(small, 128, "expected")
    with caplog.at_level(logging.WARNING):
        assert run(large, 320, "out") == expected and len(expected) > 80
    assert large.seen == small.seen
    for name in ("labels/a.tif", "geojson/a.geojson"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    said = [record.message for record in caplog.records if "memory" in record.message]
    assert len(said) == 1 and "smaller" in said[0]


def test_what_does_not_fit_in_tiles_either_is_the_error_itself():
    with pytest.raises(torch.OutOfMemoryError):
        model_of(Small(10)).segment(marks(np.random.default_rng(5), (400, 420), 300))
    with pytest.raises(torch.OutOfMemoryError):
        model_of(Small(10)).segment(np.zeros((100, 100, 3), np.uint8))
