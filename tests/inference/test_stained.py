"""Stained tissue that may be seen in two ways: the one that shows more is taken, for wholes and for tiles."""

import cv2
import numpy as np
import pytest

from maskseg.imaging.windows import ArraySource
from maskseg.inference.tile_grid import Tiles
from maskseg.inference.tiling import TiledImage
from tests.inference.test_predictor import BrightSpots, predictor

SEEN = ("INPUT.NORMALIZE", "off", "INPUT.SHRINK", "False", "POSTPROCESS.TTA", "flip")
UNSCALED = (*SEEN, "POSTPROCESS.RESCALE", "[]")


def spots(ground, spot, shape=(320, 480), radius=9, every=40):
    """An image of one colour with round spots of another on it."""
    picture = np.empty((*shape, 3), np.uint8)
    picture[:] = ground
    for y in range(every // 2, shape[0], every):
        for x in range(every // 2, shape[1], every):
            cv2.circle(picture, (x, y), radius, spot, -1)
    return picture


# The network finds what is bright in its first channel: dark nuclei by their density, and pale ones in colour.
DARK, PALE = ((220, 150, 200), (60, 40, 110)), ((98, 60, 98), (230, 200, 215))
COUNT = 96


@pytest.mark.parametrize(("colours", "better"), [(DARK, "density"), (PALE, "colour")])
@pytest.mark.parametrize("diameter", [(), ("INPUT.NUCLEUS_DIAMETER", "19.0", "POSTPROCESS.DIAMETER", "19.0")])
def test_the_way_that_shows_more_is_taken(colours, better, diameter):
    image = spots(*colours)
    found = predictor(BrightSpots(), *UNSCALED, *diameter, "INPUT.STAINED", "either").segment(image)
    expected = predictor(BrightSpots(), *UNSCALED, *diameter, "INPUT.STAINED", better).segment(image)
    assert len(found) == COUNT
    np.testing.assert_array_equal(found.to_labels(), expected.to_labels())
    other = {"density": "colour", "colour": "density"}[better]
    assert len(predictor(BrightSpots(), *UNSCALED, *diameter, "INPUT.STAINED", other).segment(image)) < 3


def test_a_second_look_is_for_stained_tissue_alone():
    network = BrightSpots()
    model = predictor(network, *UNSCALED, "INPUT.STAINED", "either")
    model.segment(spots((5, 5, 5), (200, 200, 200)))
    assert len(network.seen) == 2
    network.seen.clear()
    model.segment(spots(*DARK))
    assert len(network.seen) == 3, "both ways once, and the mirror image of the better one"


class Batches(BrightSpots):
    """As its parent, several images at a time."""

    def inference(self, samples, do_postprocess):
        return [super(Batches, self).inference([one], do_postprocess)[0] for one in samples]


def test_a_batch_chooses_for_each_image():
    model = predictor(Batches(), *UNSCALED, "INPUT.STAINED", "either")
    images = [spots(*DARK), spots((5, 5, 5), (200, 200, 200)), spots(*PALE)]
    assert [len(masks) for masks in model.segment_batch(images)] == [COUNT] * 3


@pytest.mark.parametrize("colours", [DARK, PALE])
@pytest.mark.parametrize("rescaled", [False, True])
@pytest.mark.parametrize("how", ["off", "auto"])
def test_tiles_choose_as_the_whole_does(colours, rescaled, how, tmp_path):
    scale = (*SEEN, "INPUT.NUCLEUS_DIAMETER", "38.0", "POSTPROCESS.RESCALE", "[0.7, 1.5]") if rescaled else UNSCALED
    model = predictor(BrightSpots(), *scale, "INPUT.STAINED", "either", "INPUT.NORMALIZE", how)
    image = spots(*colours, shape=(640, 800))
    whole = model.segment(image)
    tiled = TiledImage(model, ArraySource(image), tmp_path, None, 256, 64)
    tiled.predict()
    assert tiled.exposure.stained == (colours == DARK)
    assert sum(len(settled.masks) for settled in tiled.settled()) == len(whole) == 320
    model.tiles = Tiles(side=256, overlap=64, large=640 * 800 - 1)
    parts = model.segment(image)
    assert len(parts) == 320
    assert ((parts.to_labels() > 0) == (whole.to_labels() > 0)).mean() > 0.99


def test_of_a_large_image_a_part_is_looked_at_in_both_ways():
    network = BrightSpots()
    model = predictor(network, *UNSCALED, "POSTPROCESS.TTA", "none", "INPUT.STAINED", "either")
    assert len(model.segment(spots(*DARK, shape=(640, 800)))) == 320
    assert [shape[1:] for shape in network.seen] == [(512, 512), (512, 512), (640, 800)]


@pytest.mark.parametrize("colours", [DARK, PALE])
@pytest.mark.parametrize("dark", [0, 12])
def test_what_was_not_scanned_is_not_looked_at(dark, colours, tmp_path):
    image = spots(*colours, shape=(640, 1400))
    image[:, :600] = dark
    model = predictor(BrightSpots(), *UNSCALED, "INPUT.STAINED", "either")
    tiled = TiledImage(model, ArraySource(image), tmp_path, None, 256, 64)
    assert tiled.exposure.stained == (colours == DARK)
    assert len(model.segment(image)) >= 320


def test_what_is_too_large_once_it_is_magnified_keeps_its_way(tmp_path):
    diameter = ("INPUT.NUCLEUS_DIAMETER", "38.0", "POSTPROCESS.DIAMETER", "19.0")
    for scale in (("POSTPROCESS.RESCALE", "[0.7, 1.5]", "INPUT.NUCLEUS_DIAMETER", "38.0"), diameter):
        network = BrightSpots()
        model = predictor(network, *SEEN, *scale, "INPUT.STAINED", "either")
        # Large at the magnification of 2 only.
        model.tiles = Tiles(side=256, overlap=64, large=640 * 800 * 2)
        assert len(model.segment(spots(*DARK, shape=(640, 800)))) == 320
        assert [shape[1:] for shape in network.seen].count((512, 512)) == 2, "it is chosen once"
