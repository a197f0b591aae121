"""Prediction with the network replaced by a stub that treats every view alike."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from scipy import ndimage
from torch.nn.functional import adaptive_avg_pool2d

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.imaging.windows import ArraySource
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.tile_grid import Tiles
from maskseg.inference.tiling import TiledImage
from maskseg.inference.tta import VIEWS
from maskseg.models.config import load_config


class BrightSpots:
    """Finds connected bright regions of a size it knows; equivariant under flips, as no trained network is.

    Keeps to the limit on detections that Mask R-CNN's heads have; -1 is none.
    """

    def __init__(self, largest: float = np.inf, limit: int = -1):
        self.largest = largest
        self.roi_heads = SimpleNamespace(box_predictor=SimpleNamespace(test_topk_per_image=limit))
        self.seen: list[tuple[int, ...]] = []

    def inference(self, samples, do_postprocess):
        assert not do_postprocess, "masks are never pasted"
        image = samples[0]["image"].numpy()
        self.seen.append(image.shape)
        labels, _ = ndimage.label(image[0] > 100)
        boxes, scores, masks = [], [], []
        for value, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            crop = (labels[rows, columns] == value).astype(np.float32)
            if max(crop.shape) > self.largest:
                continue
            boxes.append((columns.start, rows.start, columns.stop, rows.stop))
            scores.append(min(0.5 + crop.sum() / 1e5, 1.0))
            # Cell means: unlike cv2.resize, the same from the left and from the right.
            masks.append(adaptive_avg_pool2d(torch.tensor(crop)[None], (28, 28))[0].numpy())
        limit = self.roi_heads.box_predictor.test_topk_per_image
        keep = np.argsort(-np.array(scores), kind="stable")[: limit if limit >= 0 else None]
        found = Instances(image.shape[1:])
        found.pred_boxes = Boxes(torch.tensor(np.array(boxes).reshape(-1, 4)[keep], dtype=torch.float32))
        found.scores = torch.tensor(np.array(scores, np.float32)[keep])
        found.pred_masks = torch.tensor(np.array(masks, np.float32).reshape(-1, 28, 28)[keep])[:, None]
        return [found]


def predictor(network: BrightSpots, *overrides: str, config: str = "nuclei_R_101_FPN") -> MaskRCNNPredictor:
    return MaskRCNNPredictor(load_config(config, ["MODEL.DEVICE", "cpu", *overrides]), network)


def picture(seed: int, shape=(200, 300), count: int = 25) -> np.ndarray:
    """Ellipses that do not touch, on black, RGB."""
    rng = np.random.default_rng(seed)
    image = np.zeros((*shape, 3), np.uint8)
    for _ in range(count):
        spot = np.zeros(shape, np.uint8)
        centre = int(rng.integers(shape[1])), int(rng.integers(shape[0]))
        cv2.ellipse(
            spot, centre, (int(rng.integers(5, 14)), int(rng.integers(5, 14))), int(rng.integers(180)), 0, 360, 255, -1
        )
        if not (cv2.dilate(spot, np.ones((7, 7))) & image[..., 0]).any():
            image[spot > 0] = 200
    return image


def pixel_sets(masks) -> set[tuple]:
    return {(*box.tolist(), bitmap.tobytes()) for box, bitmap in zip(masks.boxes, masks.bitmaps, strict=True)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "tta"), [("nuclei_R_101_FPN", "none"), ("nuclei_R_101_FPN", "flip"), ("nuclei_R_18_FPN", "d4")]
)
def test_a_view_of_an_image_gives_that_view_of_its_nuclei(config, tta):
    # 256 wide: enlarged by a whole factor, so that resampling is the same from either side.
    image = picture(1, (180, 256))
    # A threshold that no soft mask of this drawing meets but for rounding, which differs between the directions.
    model = predictor(BrightSpots(), "POSTPROCESS.MASK_THRESHOLD", "0.35177", config=config)
    straight = model.segment(image, tta).to_labels()
    assert straight.max() > 10
    for view in VIEWS["d4"][1::2]:
        seen = model.segment(np.ascontiguousarray(view.apply(image)), tta).to_labels()
        assert pixel_sets(CropMasks.from_labels(view.undo(seen))) == pixel_sets(CropMasks.from_labels(straight))


def test_masks_come_out_where_the_spots_are():
    image = picture(2)
    found = predictor(BrightSpots()).segment(image)
    labels, count = ndimage.label(image[..., 0])
    assert len(found) == count
    guess = found.to_labels()
    for value in range(1, count + 1):
        true = labels == value
        likely = np.bincount(guess[true]).argmax()
        assert ((guess == likely) & true).sum() / ((guess == likely) | true).sum() > 0.8


@pytest.mark.parametrize("tta", ["flip", "d4"])
def test_the_views_of_an_equivariant_network_change_nothing(tta):
    image = picture(3, (256, 256))
    # Of equal probabilities the average is the same up to rounding.
    model = predictor(BrightSpots(), "POSTPROCESS.MASK_THRESHOLD", "0.35177")
    assert pixel_sets(model.segment(image, tta)) == pixel_sets(model.segment(image, tta="none"))


def test_an_unknown_set_of_views_is_named():
    with pytest.raises(InputError, match="'turns'; choose one of none, flip, d4"):
        predictor(BrightSpots()).segment(picture(3), tta="turns")


@pytest.mark.slow
def test_a_limit_that_is_hit_is_not_silent(caplog):
    image = np.zeros((512, 512, 3), np.uint8)
    for shift in range(4):  # squares of 4 x 4
        for other in range(4):
            image[4 + shift :: 12, 4 + other :: 12] = 255
    expected = ndimage.label(image[..., 0])[1]
    assert expected > 1600
    assert len(predictor(BrightSpots()).segment(image, tta="none")) == expected
    assert not caplog.records
    assert len(predictor(BrightSpots(limit=400)).segment(image, tta="none")) == 400
    assert "400 nuclei or more: set TEST.DETECTIONS_PER_IMAGE to -1" in caplog.text


def test_nothing_found_is_tried_once_more_at_a_quarter_of_the_size():
    image = np.zeros((100, 128, 3), np.uint8)
    cv2.circle(image, (64, 50), 40, (220,) * 3, -1)
    # Magnified four times to 512 the nucleus is 320 pixels across, too large for this network; at a quarter it is 80.
    network = BrightSpots(largest=100)
    found = predictor(network).segment(image)
    assert len(found) == 1
    truth = image[..., 0] > 0
    mask = found.to_labels() > 0
    assert (mask & truth).sum() / (mask | truth).sum() > 0.9
    assert {shape[1:] for shape in network.seen} == {(512, 512)}, "the canvas has the size of the input"
    assert len(predictor(BrightSpots(largest=100), "POSTPROCESS.RETRY_CANVAS", "1").segment(image)) == 0


@pytest.mark.parametrize("tiled", [False, True])
def test_what_the_cleaning_drops_is_not_found_and_tried_once_more_too(tiled, tmp_path):
    # A spot of six pixels in either view, and one that only the smaller scale shows.
    image = np.zeros((512, 512, 3), np.uint8)
    image[20:22, 20:23] = 220
    cv2.circle(image, (300, 260), 60, (220,) * 3, -1)
    network = BrightSpots(largest=100)
    model = predictor(network, "POSTPROCESS.MIN_AREA", "10")
    if tiled:
        image_in_tiles = TiledImage(model, ArraySource(image), tmp_path, "flip", side=512, context=64)
        image_in_tiles.predict()
        areas = [area for masks, _ in image_in_tiles.settled() for area in masks.areas]
    else:
        areas = model.segment(image, "flip").areas.tolist()
    assert len(areas) == 1 and areas[0] > 8000
    # One pixel is as good as none; two are a nucleus, if the settings keep them.
    assert len(predictor(network, "POSTPROCESS.MIN_AREA", "6", "POSTPROCESS.CLOSE", "False").segment(image)) == 1


def test_an_empty_image_gives_no_nuclei():
    found = predictor(BrightSpots()).segment(np.zeros((50, 60, 3), np.uint8))
    assert len(found) == 0
    assert found.shape == (50, 60)


def disks(diameter: int, count: int = 12, shape=(400, 512)) -> np.ndarray:
    """Equal disks in rows, RGB."""
    image = np.zeros((*shape, 3), np.uint8)
    step = int(1.5 * diameter) + 8
    for k in range(count):
        row, column = divmod(k, shape[1] // step)
        cv2.circle(image, (step // 2 + column * step, step // 2 + row * step), diameter // 2, (200,) * 3, -1)
    return image


def scale_model(network, *overrides: str, rescale: str = "[0.6, 4.0]"):
    # Without a further look where cleaning leaves nothing.
    looks = ("POSTPROCESS.TTA", "none", "POSTPROCESS.RETRY_CANVAS", "1")
    keys = ("INPUT.NUCLEUS_DIAMETER", "30.0", "POSTPROCESS.RESCALE", rescale, *looks, *overrides)
    return predictor(network, "POSTPROCESS.MASK_THRESHOLD", "0.5", *keys, config="nuclei_R_18_FPN")


def iou(masks, image) -> float:
    found, truth = masks.to_labels() > 0, image[..., 0] > 100
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("diameter", "count", "rescale", "magnified"),
    [
        (10, 12, "[0.6, 4.0]", 3),
        (10, 5, "[0.6, 4.0]", 3),
        (10, 4, "[0.6, 4.0]", 1),  # too few to judge by
        (10, 12, "[0.3, 4.0]", 1),
        (20, 12, "[0.6, 4.0]", 1),
        (60, 12, "[0.6, 4.0]", 1),
        (60, 12, "[0.6, 1.5]", 1 / 2),
        (60, 3, "[0.6, 1.5]", 1 / 2),  # costs little
        (60, 2, "[0.6, 1.5]", 1),
        (4, 12, "[0.6, 4.0]", 4),  # no more than that
    ],
)
def test_an_image_of_nuclei_of_another_size_is_seen_as_the_training_was(diameter, count, rescale, magnified):
    network, image = BrightSpots(), disks(diameter, count)
    found = scale_model(network, rescale=rescale).segment(image)
    assert len(found) == (count if diameter > 4 else 0), "below the minimum area at 4"
    assert diameter == 4 or iou(found, image) > 0.9
    assert len(network.seen) == (1 if magnified == 1 else 2)
    least = 512 if magnified < 1 else 32
    tall, wide = (-(-side * magnified // least) * least for side in image.shape[:2])
    assert network.seen[0][1:] == (416, 512)
    assert np.abs(np.array(network.seen[-1][1:]) - (tall, wide)).max() <= 0.08 * wide, "a disk of pixels is no circle"


def test_a_diameter_that_is_given_needs_no_first_look():
    network, image = BrightSpots(), disks(10)
    found = scale_model(network, "POSTPROCESS.DIAMETER", "15.0").segment(image)
    assert [shape[1:] for shape in network.seen] == [(800, 1024)]
    assert len(found) == 12
    with pytest.raises(InputError, match=r"set INPUT\.NUCLEUS_DIAMETER"):
        predictor(BrightSpots(), "POSTPROCESS.DIAMETER", "15.0").segment(image)


MICRONS = ("POSTPROCESS.DIAMETER_MICRONS", "7.5")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "mpp", "seen"),
    [
        (MICRONS, 0.5, (800, 1024)),  # 15 pixels
        (MICRONS, 0.25, (416, 512)),  # 30 pixels, as in training
        (("INPUT.MPP", "0.25"), 0.5, (800, 1024)),  # as fine as in training
        (("INPUT.MPP", "0.25"), 0.25, (416, 512)),
        (("INPUT.MPP", "0.25", *MICRONS), 0.5, (800, 1024)),
        (("INPUT.MPP", "0.5", "POSTPROCESS.DIAMETER", "15.0"), 0.5, (800, 1024)),  # what is given goes before
    ],
)
def test_nuclei_are_looked_for_in_the_size_that_the_pixels_say(overrides, mpp, seen):
    network = BrightSpots()
    found = scale_model(network, *overrides).at_pixel_size(mpp).segment(disks(10))
    assert [shape[1:] for shape in network.seen] == [seen], "without a first look"
    assert len(found) == 12


@pytest.mark.slow
@pytest.mark.parametrize(("mpp", "learned"), [(None, "0.25"), (0.5, "0.0"), (10.0, "0.25"), (0.005, "0.25")])
def test_where_the_size_of_pixels_is_not_known_or_not_to_be_believed_it_is_estimated(mpp, learned):
    """So it is where that of the training is not known."""
    one, other = BrightSpots(), BrightSpots()
    scale_model(one, "INPUT.MPP", learned).at_pixel_size(mpp).segment(disks(10))
    scale_model(other).segment(disks(10))
    assert one.seen == other.seen


def test_a_diameter_in_micrometres_needs_the_size_of_a_pixel():
    model = scale_model(BrightSpots(), *MICRONS)
    with pytest.raises(InputError, match=r"cell\.tif: does not say how large its pixels are; give --microns-per-pixel"):
        model.at_pixel_size(None, "cell.tif")
    with pytest.raises(InputError, match=r"cell\.tif: has 9 micrometres a pixel, and nuclei of 7\.5 .* 0\.833 pixels"):
        model.at_pixel_size(9.0, "cell.tif")
    with pytest.raises(InputError, match=r"say it by the model's at_pixel_size"):
        model.segment(disks(10))
    with pytest.raises(InputError, match=r"POSTPROCESS\.DIAMETER and POSTPROCESS\.DIAMETER_MICRONS are both given"):
        scale_model(BrightSpots(), *MICRONS, "POSTPROCESS.DIAMETER", "15.0")


def test_where_the_size_trained_on_is_not_known_nothing_is_rescaled():
    network = BrightSpots()
    scale_model(network, "INPUT.NUCLEUS_DIAMETER", "0.0").segment(disks(10))
    assert len(network.seen) == 1


@pytest.mark.slow
def test_an_image_that_magnified_would_be_large_is_predicted_in_tiles():
    image = disks(10)
    expected = scale_model(BrightSpots()).segment(image)
    network = BrightSpots()
    model = scale_model(network)
    model.tiles = Tiles(large=600 * 600)
    found = model.segment(image)
    assert max(np.prod(shape[1:]) for shape in network.seen) < 1200 * 1200 * 0.9
    assert len(found) == 12
    assert iou(found, image) > 0.9
    assert ((found.to_labels() > 0) == (expected.to_labels() > 0)).mean() > 0.999
    assert (np.diff(found.scores) <= 0).all()
