"""Tiled prediction gives what the whole image would give, for networks that see no further than the context."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from scipy import ndimage

from maskseg.core.masks import CropMasks
from maskseg.imaging.windows import ArraySource
from maskseg.inference.stitching import TilePart
from maskseg.inference.tiling import MARGIN, TiledImage, Tiling
from maskseg.inference.tta import PLAIN, VIEWS
from tests.inference.test_predictor import BrightSpots, disks, picture, pixel_sets, predictor, scale_model

UNSCALED = (
    "INPUT.SHRINK",
    "False",
    "INPUT.LONG_SIDE",
    "32",
    "INPUT.FORMAT",
    "RGB",
    "MODEL.CLASS_NAMES",
    "['a', 'b', 'c']",
)


class Marked:
    """Every marked pixel is the centre of a nucleus: red is its size, green and blue are its score, and its class.

    The same at every place, but not in the mirror: there each box is a pixel wider on one side. `shake` moves boxes by
    as much as a trained network does from one window to another.
    """

    def __init__(self, shake: float = 0):
        self.roi_heads = SimpleNamespace(box_predictor=SimpleNamespace(test_topk_per_image=-1))
        self.shake = shake
        self.rng = np.random.default_rng(0)
        self.largest_input = 0

    def inference(self, samples, do_postprocess):
        image = samples[0]["image"].numpy()
        self.largest_input = max(self.largest_input, image[0].size)
        assert not any(side % 32 for side in image.shape[1:]), "the network's features lie on a grid"
        y, x = np.nonzero(image[0])
        size, score = image[0, y, x].astype(float), image[1, y, x] * 256.0 + image[2, y, x]
        # Multiples of a half: exact in float32 whatever the window, as is all that follows from them.
        boxes = np.stack([x - size / 2, y - size // 3, x + size / 2 + 1, y + size // 3], axis=1)
        boxes += self.rng.uniform(-self.shake, self.shake, boxes.shape)
        height, width = image.shape[1:]
        cell = (np.arange(28) + 0.5) / 14 - 1
        disk = 1.0 - np.hypot(cell[:, None], cell[None, :])
        # Two lobes joined by a bridge: what a neighbour cuts off it can leave fragments.
        lobes = np.where(np.abs(cell)[None, :] < 0.2, np.abs(cell)[:, None] < 0.25, disk > -0.1).astype(np.float32)
        order = np.argsort(-score, kind="stable")
        found = Instances((height, width))
        found.pred_boxes = Boxes(torch.tensor(boxes[order], dtype=torch.float32).reshape(-1, 4))
        found.pred_boxes.clip((height, width))
        found.scores = torch.tensor((score[order] / 65536).astype(np.float32))
        found.pred_classes = torch.tensor(score[order] % 3).long()
        found.pred_masks = torch.tensor(np.where(score[order] % 2 == 0, 0, 1))[:, None, None] * torch.tensor(lobes)
        found.pred_masks += (1 - torch.tensor(score[order] % 2))[:, None, None] * torch.tensor((disk > 0).astype("f4"))
        found.pred_masks = found.pred_masks[:, None].float()
        return [found]


def marks(rng, shape, count, largest=40):
    """An image of marks whose boxes overlap as much as a network lets them, each with its own score."""
    image, boxes = np.zeros((*shape, 3), np.uint8), np.zeros((0, 4))
    edge = [-(-side // 32) * 32 for side in (*shape[::-1], *shape[::-1])]
    for code in rng.permutation(60000)[:count]:
        x, y, size = rng.integers(shape[1]), rng.integers(shape[0]), rng.integers(8, largest)
        box = np.array([x - size / 2 - 1, y - size // 3, x + size / 2 + 1, y + size // 3]).clip(0, edge)
        shared = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0).prod(axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
        if not (shared / areas > 0.25).any():
            boxes = np.concatenate([boxes, box[None]])
            image[y, x] = size, (code + 5000) >> 8, (code + 5000) & 255
    return image


def tiled(model, image, folder, tta=None, **kwargs):
    """All final nuclei of an image, and how many waited at a time."""
    whole = TiledImage(model, ArraySource(image), folder, tta, **kwargs)
    at_most = whole.predict()
    pieces = []
    lowest = 0
    for masks, rows in whole.settled():
        assert masks.boxes[:, 1].min(initial=rows + 10**6) >= lowest, "rows that were done got another nucleus"
        assert rows >= lowest
        lowest = rows
        pieces.append(masks)
    assert lowest == image.shape[0]
    assert at_most >= sum(map(len, pieces))
    return CropMasks(
        image.shape[:2],
        np.concatenate([masks.boxes for masks in pieces]),
        [bitmap for masks in pieces for bitmap in masks.bitmaps],
        np.concatenate([masks.scores for masks in pieces]),
        np.concatenate([masks.classes for masks in pieces]),
    )


def scored(masks):
    return set(
        zip(
            masks.scores.tolist(),
            masks.classes.tolist(),
            map(tuple, masks.boxes.tolist()),
            [bitmap.tobytes() for bitmap in masks.bitmaps],
            strict=True,
        )
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10))])
def test_tiled_equals_whole(seed, tmp_path):
    rng = np.random.default_rng(seed)
    tta = "d4" if seed % 5 == 4 else ["none", "flip", "flip"][seed % 3]
    # Eight views of each tile take their time.
    shape = tuple(rng.integers(*((250, 350) if tta == "d4" else (200, 700)), 2).tolist())
    image = marks(rng, shape, count=shape[0] * shape[1] // 300)
    fragments = ["drop", "keep_largest"][seed % 2]
    network = Marked()
    model = predictor(network, *UNSCALED, "POSTPROCESS.FRAGMENTS", fragments, "POSTPROCESS.MIN_AREA", "24")
    whole = model.segment(image, tta)
    network.largest_input = 0
    side = int(rng.integers(64, 200))
    result = tiled(model, image, tmp_path, tta, side=side, context=68)
    assert len(result) == len(whole) > 100
    assert scored(result) == scored(whole)
    assert network.largest_input <= (side + 2 * (68 + 32)) ** 2, "what the network sees is bounded by the tile"
    taken = np.zeros(shape, int)
    for (x0, y0, x1, y1), bitmap in zip(result.boxes, result.bitmaps, strict=True):
        taken[y0:y1, x0:x1] += bitmap
    assert taken.max() == 1


def test_masks_overlap_in_this_test_so_that_order_matters():
    """The set above would prove nothing if neighbours left each other alone."""
    image = marks(np.random.default_rng(0), (400, 400), 500)
    model = predictor(Marked(), *UNSCALED)
    raw = model.look(image, PLAIN).masks(model.settings.mask_threshold)
    assert raw.areas.sum() > 1.1 * model.segment(image, "none").areas.sum()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_network_that_is_not_quite_equivariant_loses_and_doubles_nothing(seed, tmp_path):
    rng = np.random.default_rng(seed)
    image = np.zeros((600, 600, 3), np.uint8)
    y, x = np.mgrid[15:600:30, 15:600:30]
    image[y, x] = [24, 200, 1]
    image[y, x, 2] = rng.integers(0, 256, y.shape)
    result = tiled(predictor(Marked(shake=1.0), *UNSCALED), image, tmp_path, side=96, context=64)
    centres = np.sort((result.boxes[:, :2] + result.boxes[:, 2:]) // 2 // 30 @ [1, 20])
    np.testing.assert_array_equal(centres, np.arange(400))


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "flip", "d4"])
def test_stretch_and_scale_are_those_of_the_whole_image(tta, tmp_path):
    """The left half is dark: stretched by itself it would look like the right one."""
    image = picture(4, (300, 512), 80)
    image[:, :256] //= 4
    # Magnified by an odd factor it would be the same but for single pixels.
    model = predictor(BrightSpots(), "POSTPROCESS.RESCALE", "[]", config="nuclei_R_18_FPN")
    whole = model.segment(image, tta)
    assert 5 < len(whole) < ndimage.label(image[..., 0])[1] - 5
    assert pixel_sets(tiled(model, image, tmp_path, tta, side=96, context=64)) == pixel_sets(whole)


@pytest.mark.slow
def test_an_enlarged_image_is_cut_on_the_grid_of_the_network(tmp_path):
    """256 becomes 512: an exact factor, at which resampling by windows and as a whole are the same."""
    image = picture(5, (200, 256), 20)
    model = predictor(BrightSpots(), "INPUT.SHRINK", "False")
    assert pixel_sets(tiled(model, image, tmp_path, side=128, context=96)) == pixel_sets(model.segment(image))


@pytest.mark.slow
def test_an_odd_factor_moves_no_outline_by_more_than_a_pixel(tmp_path):
    image = picture(6, (211, 307), 25)
    model = predictor(BrightSpots(), "INPUT.SHRINK", "False")
    whole, result = model.segment(image), tiled(model, image, tmp_path, side=128, context=96)
    assert len(whole) == len(result)
    a, b = whole.to_labels() > 0, result.to_labels() > 0
    assert not (a & ~ndimage.binary_dilation(b)).any()
    assert not (b & ~ndimage.binary_dilation(a)).any()


@pytest.mark.slow
def test_nothing_found_is_tried_once_more_at_a_quarter_of_the_size(tmp_path):
    image = np.zeros((600, 800, 3), np.uint8)
    y, x = np.mgrid[:600, :800]
    image[np.hypot(y - 300, x - 390) < 60] = 200
    model = predictor(BrightSpots(largest=50), "INPUT.SHRINK", "False")
    whole = model.segment(image)
    assert len(whole) == 1
    assert pixel_sets(tiled(model, image, tmp_path, side=64, context=32)) == pixel_sets(whole)


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "d4"])
def test_empty_background_is_not_shown_to_the_network_and_no_nucleus_is_lost(tta, tmp_path):
    """Fluorescence: dark, with noise that the limits of the whole image leave faint."""
    rng = np.random.default_rng(8)
    image = np.rint(rng.normal(10, 1, (640, 900, 1)).clip(0) + np.zeros(3)).astype(np.uint8)
    # A group, and single nuclei of the least size on a seam and at an edge.
    image[300:500, 500:800] = np.maximum(image[300:500, 500:800], picture(4, (200, 300), 25))
    for y, x in ((100, 191), (639, 20), (101, 700)):
        image[y - 3 : y + 3, x - 3 : x + 3] = 150
    network = BrightSpots()
    model = predictor(network, "POSTPROCESS.RESCALE", "[]", "INPUT.SHRINK", "False", config="nuclei_R_18_FPN")
    whole = model.segment(image, tta)
    network.seen.clear()
    result = tiled(model, image, tmp_path, tta, side=192, context=64)
    assert pixel_sets(result) == pixel_sets(whole) and len(whole) > 15
    in_full = TiledImage(model, ArraySource(image), tmp_path, side=192, context=64).tiling.seen * 640 * 900
    shown = sum(height * width for _, height, width in network.seen)
    assert 0 < shown < 0.5 * in_full * (8 if tta == "d4" else 1)


@pytest.mark.slow
def test_a_nucleus_larger_than_the_overlap_is_reported(tmp_path, caplog):
    image = marks(np.random.default_rng(1), (300, 300), 40)
    model = predictor(Marked(), *UNSCALED)
    tiled(model, image, tmp_path / "a", side=96, context=64)
    assert not caplog.records
    image[150, 92] = 240, 255, 255
    tiled(model, image, tmp_path / "b", side=96, context=64)
    assert "nuclei reach the edge" in caplog.text
    assert "--tile-overlap" in caplog.text


@pytest.mark.slow
def test_an_interrupted_image_goes_on_where_it_was(tmp_path):
    image = marks(np.random.default_rng(2), (300, 300), 100)

    class Stops(Marked):
        calls = 0

        def inference(self, samples, do_postprocess):
            Stops.calls += 1
            if Stops.calls == 12:
                raise KeyboardInterrupt
            return super().inference(samples, do_postprocess)

    model = predictor(Stops(), *UNSCALED)
    with pytest.raises(KeyboardInterrupt):
        tiled(model, image, tmp_path, "none", side=64, context=32)
    first = tiled(model, image, tmp_path, "none", side=64, context=32)
    assert Stops.calls == 25 + 1
    assert scored(first) == scored(predictor(Marked(), *UNSCALED).segment(image, "none"))


@pytest.mark.slow
def test_cores_cover_the_image_once_and_windows_lie_on_the_grid():
    rng = np.random.default_rng(3)
    for _ in range(50):
        shape = tuple(rng.integers(1, 3000, 2).tolist())
        canvas = tuple(-(-side // 32) * 32 for side in shape)
        tiling = Tiling(shape, canvas, int(rng.integers(32, 1500)), int(rng.integers(16, 300)))
        covered = np.zeros(shape, np.uint8)
        for tile in range(len(tiling)):
            x0, y0, x1, y1 = tiling.core(tile)
            assert x1 - x0 <= tiling.side and y1 - y0 <= tiling.side
            covered[y0:y1, x0:x1] += 1
            for view in VIEWS["d4"]:
                window = np.array(tiling.window(tile, view))
                assert not (window % 32).any()
                core, (height, width) = np.array(view.box((x0, y0, x1, y1), shape)), view.shape(shape)
                assert (window[:2] <= (core[:2] - tiling.context).clip(0)).all()
                assert (window[2:] >= np.minimum(core[2:] + tiling.context, [width, height])).all()
        assert (covered == 1).all()


def test_overlap_costs_at_most_three_tenths_of_a_large_image():
    rng = np.random.default_rng(4)
    for shape in ((2049, 2049), (4000, 5000), (8192, 8192), (16384, 16384), *rng.integers(2100, 60_000, (40, 2))):
        canvas = tuple(-(-int(side) // 32) * 32 for side in shape)
        assert Tiling(tuple(map(int, shape)), canvas).seen <= 1.301


def test_a_claim_is_made_up_to_the_margin_outside_the_core():
    tiling = Tiling((640, 640), (640, 640), 320, 64)
    boxes = np.array([[x - 5.0, 100, x + 5, 110] for x in (319 + MARGIN, 321 + MARGIN, 319 - MARGIN, 321 - MARGIN)])
    assert tiling.claims(0, boxes).tolist() == [True, False, True, True]
    assert tiling.claims(1, boxes).tolist() == [True, True, False, True]


def test_a_part_comes_back_from_its_file(tmp_path):
    masks = CropMasks.from_labels(np.kron(np.arange(6).reshape(2, 3), np.ones((5, 3), int)), np.arange(5) / 5)
    TilePart(np.random.default_rng(0).random((5, 4)), masks, 2).write(tmp_path / "a.npz")
    back = TilePart.read(tmp_path / "a.npz")
    assert scored(back.masks) == scored(masks)
    assert back.cut == 2
    assert back.masks.shape == masks.shape
    empty = TilePart(np.zeros((0, 4)), CropMasks.empty((7, 9)))
    empty.write(tmp_path / "b.npz")
    assert len(TilePart.read(tmp_path / "b.npz").masks) == 0


@pytest.mark.slow
def test_the_magnification_of_all_tiles_follows_from_some_of_them(tmp_path):
    image, network = disks(10, 150, (500, 400)), BrightSpots()
    model = scale_model(network)
    whole = model.segment(image)
    assert len(whole) == 150
    network.seen.clear()
    result = tiled(model, image, tmp_path, side=128, context=64)
    assert len(network.seen) > 4 * 9, (
        "three times as large, there are nine times as many tiles, less those that are empty"
    )
    assert len(result) == 150
    assert ((result.to_labels() > 0) == (whole.to_labels() > 0)).mean() > 0.999
    network.seen.clear()
    same = scale_model(network, "POSTPROCESS.RESCALE", "[0.2, 4.0]")
    tiled(same, image, tmp_path / "same", side=128, context=64)
    tiles = len(TiledImage(same, ArraySource(image), tmp_path, side=128, context=64).tiling)
    assert 0 < len(network.seen) <= tiles, "the tiles looked at first are not done twice"
