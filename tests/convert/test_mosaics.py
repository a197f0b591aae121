import csv
import json

import cv2
import numpy as np
import pytest

from maskseg.convert.mosaic_search import edges, find_mosaics, seams_of
from maskseg.convert.mosaic_table import read_table
from maskseg.convert.mosaics import cut_pairs, full_rectangles, join_tiles, rebuild_mosaics
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco, write_coco
from maskseg.formats.coco import to_annotations
from maskseg.imaging.reading import read_image

SQUARE = {"a": (0, 0), "b": (0, 1), "c": (1, 0), "d": (1, 1)}


def field(height, width, seed=0, nuclei=60):
    """A picture with bright discs on a noisy dark ground, and its label image."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((height, width), np.int32)
    for number in range(1, nuclei + 1):
        centre = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.circle(labels, centre, int(rng.integers(5, 12)), number, -1)
    grey = cv2.GaussianBlur((labels > 0) * rng.uniform(60, 200, nuclei + 1)[labels], (0, 0), 1.5)
    noisy = np.clip(grey + 12 + rng.normal(0, 1.5, grey.shape), 0, 255)
    return np.repeat(noisy.astype(np.uint8)[:, :, None], 3, axis=2), labels


def cut(picture, rows, columns, prefix="t"):
    height, width = picture.shape[0] // rows, picture.shape[1] // columns
    return {
        f"{prefix}{r}{c}": picture[r * height : (r + 1) * height, c * width : (c + 1) * width]
        for r in range(rows)
        for c in range(columns)
    }


def placed(names):
    return {name: (int(name[-2]), int(name[-1])) for name in names}


def found(images):
    return find_mosaics({name: edges(image) for name, image in images.items()})


@pytest.fixture
def data_set(tmp_path):
    """A function that writes tiles with their labels as a data set."""

    def write(images, labels, folder="set"):
        records, items = [], []
        for number, (name, image) in enumerate(images.items(), start=1):
            path = tmp_path / folder / "images" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), image[:, :, ::-1])
            records.append({"id": number, "file_name": path.name, "height": image.shape[0], "width": image.shape[1]})
            found = to_annotations(CropMasks.from_labels(labels[name]))
            items += [{"id": len(items) + i, "image_id": number, **item} for i, item in enumerate(found, start=1)]
        write_coco(tmp_path / folder / "annotations.json", records, items)
        return tmp_path / folder

    return write


def table(path, rows, header=("img_id", "mosaic_idx", "mosaic_position")):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


# ---- found by their edges ----


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 2), (3, 4)])
def test_tiles_of_a_field_are_laid_as_they_were_among_strangers(rows, columns):
    picture, _ = field(rows * 128, columns * 128, nuclei=45 * rows * columns)
    strangers = {f"s{i}": field(128, 128, seed=i + 1)[0] for i in range(10)}
    tiles = cut(picture, rows, columns)
    together = list({**strangers, **tiles}.items())
    for order in (together, together[::-1], together[5:] + together[:5]):
        assert found(dict(order)) == [placed(tiles)]


def test_noise_and_blank_tiles_are_not_evidence():
    rng = np.random.default_rng(0)
    noise = {f"n{i}": np.full((64, 64, 3), rng.integers(3, 6, (64, 64, 1)), np.uint8) for i in range(40)}
    blank = {f"b{i}": np.zeros((64, 64, 3), np.uint8) for i in range(10)}
    assert found(noise | blank) == []


def test_edges_turned_end_to_end_are_strangers():
    tiles = cut(field(512, 512, nuclei=450)[0], 4, 4)
    turned = {}
    for name, image in tiles.items():
        top, bottom, left, right = edges(image).lines
        turned[name] = edges(image)._replace(lines=(top[::-1], bottom, left[::-1], right))
    assert len(found(tiles)[0]) == 16
    assert find_mosaics(turned) == []


def test_a_dark_seam_is_accepted_where_the_others_close_the_loop():
    picture = field(512, 512, nuclei=400)[0].copy()
    dark = np.random.default_rng(1).normal(12, 1.5, picture.shape[:2]).clip(0).astype(np.uint8)
    picture[:246, 240:272] = dark[:246, 240:272, None]  # nothing crosses the upper half of the upright seam
    tiles = cut(picture, 2, 2)
    assert found({name: tiles[name] for name in ("t00", "t01")}) == []
    assert found(tiles) == [placed(tiles)]


def test_only_tiles_of_equal_size_are_compared():
    tiles = cut(field(128, 256)[0], 1, 2)
    assert len(found(tiles)) == 1
    tiles["t01"] = tiles["t01"][:, :-1]
    assert found(tiles) == []


def test_of_identical_tiles_the_first_by_name_is_laid():
    tiles = cut(field(128, 256)[0], 1, 2)
    assert found(tiles | {"u01": tiles["t01"], "z": tiles["t00"]}) == [{"t00": (0, 0), "t01": (0, 1)}]


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1)])
def test_one_image_or_tiles_of_one_line_end_well(shape):
    image = field(*shape)[0]
    assert found({"a": image}) == []
    assert found({"a": image, "b": image}) == []


def test_seams_of_a_mosaic():
    assert set(seams_of(SQUARE)) == {("a", "b", 1), ("c", "d", 1), ("a", "c", 0), ("b", "d", 0)}


# ---- nuclei over seams ----


def test_joined_tiles_are_the_field_that_was_cut():
    labels = np.zeros((60, 80), np.int32)
    for number, centre in enumerate([(40, 30), (40, 8), (20, 30), (62, 30), (10, 10), (70, 50)], start=1):
        cv2.circle(labels, centre, 6, number, -1)
    tiles = cut(labels, 2, 2)
    grid = [[CropMasks.from_labels(tiles[f"t{r}{c}"]) for c in range(2)] for r in range(2)]
    assert sum(len(masks) for row in grid for masks in row) == 4 + 3 * 2 + 2
    joined = join_tiles(grid)
    assert len(joined) == 6  # the one at the crossing is one mask of four pieces
    expected = CropMasks.from_labels(labels)
    assert sorted(map(tuple, joined.boxes)) == sorted(map(tuple, expected.boxes))
    assert ((joined.to_labels() > 0) == (labels > 0)).all()


@pytest.mark.parametrize(("last", "joined"), [(19, True), (15, True), (14, False), (10, False)])
def test_pieces_are_one_nucleus_if_they_share_more_than_half_of_their_border(last, joined):
    left, right = np.zeros((2, 30, 20), np.int32)
    left[10:20, 12:] = 1
    right[10 : last + 1, :6] = 1
    # 10 of 10, 6 of 10, 5 of 10 and 1 of 10 border pixels
    masks = CropMasks.from_labels(left), CropMasks.from_labels(right)
    assert cut_pairs(*masks, across=True) == ([(0, 0)] if joined else [])
    down = CropMasks.from_labels(left.T), CropMasks.from_labels(right.T)
    assert cut_pairs(*down, across=False) == ([(0, 0)] if joined else [])


def test_a_nucleus_near_the_seam_that_does_not_reach_it_is_left():
    left, right = np.zeros((2, 30, 20), np.int32)
    left[10:20, 12:19] = 1
    right[10:20, :6] = 1
    assert cut_pairs(CropMasks.from_labels(left), CropMasks.from_labels(right), across=True) == []


def test_tiles_without_nuclei():
    empty = CropMasks.empty((10, 12))
    joined = join_tiles([[empty, empty]])
    assert (joined.shape, len(joined)) == ((10, 24), 0)


# ---- rectangles ----


def test_full_rectangles_cover_what_they_can_and_use_no_tile_twice():
    assert full_rectangles(SQUARE, 50, 50) == [[["a", "b"], ["c", "d"]]]
    bent = {name: SQUARE[name] for name in "abc"}
    assert full_rectangles(bent, 50, 50) == [[["a", "b"]]]
    assert full_rectangles(bent, 50, 80) == [[["a"], ["c"]]]  # more nearly square
    assert full_rectangles({"a": (0, 0), "d": (1, 1)}, 50, 50) == []
    five = SQUARE | {"e": (0, 2), "f": (1, 3), "g": (0, 3)}
    assert full_rectangles(five, 50, 50) == [[["a", "b"], ["c", "d"]], [["e", "g"]]]


def test_no_rectangle_is_larger_than_memory_allows():
    row = {f"{i}": (0, i) for i in range(10)}
    assert [len(rectangle[0]) for rectangle in full_rectangles(row, 100, 3000)] == [2] * 5


# ---- tables and data sets ----


def test_a_table_of_2018_and_one_with_rows_and_columns(tmp_path):
    rows = [("x", "7", "up_left"), ("y", "7", "down_right"), ("alone", "8", ""), ("z", "", "")]
    assert read_table(table(tmp_path / "a.csv", rows)) == [("x", "7", (0, 0)), ("y", "7", (1, 1))]
    rows = [("x", "7", "0", "2"), ("y", "7", "1", "2")]
    header = ("image_id", "mosaic", "row", "column")
    assert read_table(table(tmp_path / "b.csv", rows, header)) == [("x", "7", (0, 2)), ("y", "7", (1, 2))]
    assert read_table(table(tmp_path / "c.csv", [("x", "7")], header[:2])) == [("x", "7", None)]


@pytest.mark.parametrize(
    ("rows", "header", "text"),
    [
        ([("x", "7", "middle")], ("img_id", "mosaic_idx", "mosaic_position"), "middle"),
        ([("x", "7", "up_left"), ("x", "8", "up_left")], ("img_id", "mosaic_idx", "mosaic_position"), "once more"),
        ([("x", "7")], ("name", "mosaic_idx"), "img_id"),
        ([("x", "7", "1", "left")], ("img_id", "mosaic_idx", "row", "column"), "left"),
    ],
)
def test_a_bad_table_is_one_line_with_the_file(rows, header, text, tmp_path):
    with pytest.raises(InputError, match=text) as error:
        read_table(table(tmp_path / "bad.csv", rows, header))
    assert "bad.csv" in str(error.value)


@pytest.mark.slow
def test_the_mosaics_are_the_field_and_do_not_depend_on_the_processes(data_set, tmp_path):
    picture, labels = field(256, 320, nuclei=90)
    tiles = cut(picture, 2, 2) | {f"s{i}": field(128, 160, seed=i + 1)[0] for i in range(16)}
    source = data_set(tiles, {n: np.zeros(t.shape[:2], np.int32) for n, t in tiles.items()} | cut(labels, 2, 2))
    summary = rebuild_mosaics(source, tmp_path / "one", progress=False)
    assert (summary.images, summary.left_out) == (1, [])
    data = load_coco(tmp_path / "one")
    (record,) = data.images
    assert record["file_name"] == "t00_2x2.png"
    assert record["tiles"] == [["t00", "t01"], ["t10", "t11"]]
    assert (read_image(tmp_path / "one" / "images" / "t00_2x2.png") == picture).all()
    masks = data.masks(record)
    assert ((masks.to_labels() > 0) == (labels > 0)).all()
    assert summary.masks == len(masks) < summary.annotation_count

    rebuild_mosaics(source, tmp_path / "two", workers=2, progress=False)
    rebuild_mosaics(source, tmp_path / "table", tmp_path / "one" / "mosaics.csv", progress=False)
    for other in ("two", "table"):
        for name in ("annotations.json", "images/t00_2x2.png", "mosaics.csv"):
            assert (tmp_path / other / name).read_bytes() == (tmp_path / "one" / name).read_bytes()


def test_faults_of_a_table_are_listed_and_the_rest_is_built(data_set, tmp_path):
    picture, labels = field(128, 256)
    tiles, pieces = cut(picture, 2, 4), cut(labels, 2, 4)
    tiles["odd"], pieces["odd"] = tiles["t00"][:-1], pieces["t00"][:-1]
    source = data_set(tiles, pieces)
    rows = [
        *(("t00", "L", "up_left"), ("t01", "L", "up_right"), ("t10", "L", "down_left"), ("gone", "L", "down_right")),
        *(("t02", "double", "up_left"), ("t03", "double", "up_left")),
        *(("t12", "sizes", "up_left"), ("odd", "sizes", "up_right")),
        ("elsewhere", "other part", "up_left"),
    ]
    summary = rebuild_mosaics(source, tmp_path / "out", table(tmp_path / "t.csv", rows), progress=False)
    kinds = {item.kind: f"{item.file} {item.reason}" for item in summary.left_out}
    assert set(kinds) == {"tile missing", "two tiles in one place", "tiles of other sizes"}
    assert "gone (row 1, column 1)" in kinds["tile missing"]
    assert [image["tiles"] for image in load_coco(tmp_path / "out").images] == [[["t00", "t01"]]]


def test_a_table_without_places_only_says_what_belongs_together(data_set, tmp_path):
    picture, labels = field(256, 256, nuclei=90)
    source = data_set(cut(picture, 2, 2), cut(labels, 2, 2))
    rows = [("t00", "1"), ("t01", "1"), ("t10", "2"), ("t11", "2")]
    rebuild_mosaics(source, tmp_path / "out", table(tmp_path / "t.csv", rows, ("image_id", "mosaic")), progress=False)
    assert [image["file_name"] for image in load_coco(tmp_path / "out").images] == ["t00_1x2.png", "t10_1x2.png"]


def test_only_tiles_of_the_part_are_used(data_set, tmp_path):
    picture, labels = field(256, 256, nuclei=90)
    source = data_set(cut(picture, 2, 2), cut(labels, 2, 2))
    parts = [("t00", "train"), ("t01", "train"), ("t10", "train"), ("t11", "val")]
    table(source / "split.csv", parts, ("image_id", "part"))
    rebuild_mosaics(f"{source}:train", tmp_path / "out", progress=False)
    data = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image["tiles"] for image in data["images"]] == [[["t00", "t01"]]]


def test_a_damaged_tile_is_listed_and_the_rest_is_found(data_set, tmp_path):
    picture, labels = field(256, 256, nuclei=90)
    source = data_set(cut(picture, 2, 2), cut(labels, 2, 2))
    (source / "images" / "t11.png").write_bytes(b"")
    summary = rebuild_mosaics(source, tmp_path / "out", progress=False)
    assert [item.kind for item in summary.left_out] == ["image left out"]
    assert summary.images == 1


def test_nothing_to_build_is_one_line(data_set, tmp_path):
    picture, labels = field(64, 64)
    source = data_set({"only": picture}, {"only": labels})
    with pytest.raises(InputError, match="no two of its 1 images"):
        rebuild_mosaics(source, tmp_path / "out", progress=False)
    with pytest.raises(InputError, match="names no tile"):
        rebuild_mosaics(source, tmp_path / "out", table(tmp_path / "t.csv", [("x", "1", "up_left")]), progress=False)
    with pytest.raises(InputError, match="the tiles themselves"):
        rebuild_mosaics(source, source, progress=False)
    assert not (tmp_path / "out").exists()
