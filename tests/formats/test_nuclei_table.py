import csv
import sys

import numpy as np
import pytest
from pyarrow import parquet
from skimage.measure import regionprops_table

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.formats.nuclei_table import COLUMNS, nucleus_rows, write_nuclei, write_nuclei_parquet
from maskseg.imaging.reading import ImageFile

# Our columns and scikit-image's, whose y comes first and whose bounding box ends where ours does.
THEIRS = {
    "label": "label",
    "area": "area",
    "centroid_y": "centroid-0",
    "centroid_x": "centroid-1",
    "y0": "bbox-0",
    "x0": "bbox-1",
    "y1": "bbox-2",
    "x1": "bbox-3",
    "axis_major_length": "axis_major_length",
    "axis_minor_length": "axis_minor_length",
    "orientation": "orientation",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "intensity_mean_0": "intensity_mean-0",
    "intensity_mean_1": "intensity_mean-1",
    "intensity_mean_2": "intensity_mean-2",
}


@pytest.fixture(scope="module")
def tables(sample_folder):
    """Rows of each sample image, and what scikit-image measures on its label image as a whole."""
    data = load_coco(sample_folder)
    found = []
    for image in data.images:
        path = sample_folder / "images" / image["file_name"]
        _, values = ImageFile(path.stem, path).read_values()
        masks = CropMasks.from_labels(data.masks(image).to_labels())
        names = sorted({name.split("-")[0] for name in THEIRS.values()})
        theirs = regionprops_table(masks.to_labels(), values, properties=names)
        found.append((nucleus_rows(path.stem, masks, values), theirs))
    return found


def column(rows, name):
    return [row[list(COLUMNS).index(name)] for row in rows]


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_the_table_is_that_of_scikit_image_on_the_label_image(tables, tmp_path):
    """To the last digits of a float; in the CSV file to its eight digits."""
    assert sum(len(rows) for rows, _ in tables) > 100
    for rows, theirs in tables:
        write_nuclei(tmp_path / "nuclei.csv", rows)
        written = read_csv(tmp_path / "nuclei.csv")
        for ours, name in THEIRS.items():
            if name not in theirs:
                # A grey image has one channel.
                assert name in ("intensity_mean-1", "intensity_mean-2")
                assert set(column(rows, ours)) == {None} and {row[ours] for row in written} == {""}
                continue
            np.testing.assert_allclose(column(rows, ours), theirs[name], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose([float(row[ours]) for row in written], theirs[name], rtol=1e-7, atol=1e-7)


@pytest.mark.slow
def test_parquet_holds_the_same_rows(tables, tmp_path, monkeypatch):
    monkeypatch.setattr("maskseg.formats.nuclei_table._ROWS", 50)  # several groups of rows
    rows = [row for rows, _ in tables for row in rows]
    write_nuclei_parquet(tmp_path / "nuclei.parquet", rows)
    read = parquet.read_table(tmp_path / "nuclei.parquet")
    assert read.column_names == list(COLUMNS)
    assert [list(row.values()) for row in read.to_pylist()] == rows


def test_micrometres_where_the_size_of_a_pixel_is_known():
    labels = np.zeros((9, 9), int)
    labels[2:4, 1:7] = 1
    masks, values = CropMasks.from_labels(labels, [0.7]), np.zeros((9, 9, 1))
    (without,), (known,) = nucleus_rows("a", masks, values), nucleus_rows("a", masks, values, 0.5)
    assert without[-3:] == [None] * 3
    assert known[:-3] == without[:-3]
    row = dict(zip(COLUMNS, known, strict=True))
    assert (row["image_id"], row["score"], row["area"], row["area_um2"]) == ("a", 0.7, 12, 3)
    assert row["axis_major_length_um"] == row["axis_major_length"] / 2
    assert row["axis_minor_length_um"] == row["axis_minor_length"] / 2
    # Of a grey image, the second and the third channel are empty.
    assert [row[f"intensity_mean_{channel}"] for channel in range(3)] == [0, None, None]


def test_a_box_with_room_and_an_empty_mask():
    """A box may be larger than its mask; without a pixel there is nothing to measure."""
    bitmap = np.zeros((5, 6), bool)
    bitmap[1, 2:4] = True
    masks = CropMasks((20, 30), [(0, 0, 0, 0), (10, 7, 16, 12)], [np.zeros((0, 0), bool), bitmap])
    values = np.zeros((20, 30, 3), np.uint16)
    values[8, 12:14] = (1000, 2000, 60000)
    (row,) = (dict(zip(COLUMNS, row, strict=True)) for row in nucleus_rows("a", masks, values))
    assert (row["label"], row["area"]) == (2, 2)
    assert (row["x0"], row["y0"], row["x1"], row["y1"]) == (12, 8, 14, 9)
    assert (row["centroid_x"], row["centroid_y"]) == (12.5, 8)
    assert [row[f"intensity_mean_{channel}"] for channel in range(3)] == [1000, 2000, 60000]


def test_without_pyarrow_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"maskseg\[parquet\]"):
        write_nuclei_parquet(tmp_path / "x.parquet", [])
    assert not list(tmp_path.iterdir())
