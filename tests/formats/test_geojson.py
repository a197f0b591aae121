import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.formats.geojson import GeoJsonWriter, read_geojson, write_geojson
from tests.fixtures.converting import convert_folders as convert

SAMPLE = Path(__file__).parents[2] / "datasets" / "sample" / "heldout"
# Few labels on few pixels: pieces, holes, nuclei inside nuclei and contacts at corners are common.
label_images = hnp.arrays(
    np.int32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=8), elements=st.integers(0, 3)
)
SQUARE = {"type": "Polygon", "coordinates": [[[1, 1], [4, 1], [4, 3], [1, 3], [1, 1]]]}


def square(**properties):
    return {"type": "Feature", "geometry": SQUARE, "properties": properties}


def assert_same(masks, other):
    assert masks.shape == other.shape
    np.testing.assert_array_equal(masks.boxes, other.boxes)
    np.testing.assert_array_equal(masks.scores, other.scores)
    for bitmap, expected in zip(masks.bitmaps, other.bitmaps, strict=True):
        np.testing.assert_array_equal(bitmap, expected)


@pytest.mark.slow
@given(label_images, st.lists(st.floats(0, 1, width=32), min_size=3, max_size=3))
def test_masks_and_scores_come_back_exactly(tmp_path_factory, labels, scores):
    path = tmp_path_factory.getbasetemp() / "round.geojson"
    number = len(np.unique(labels[labels > 0]))
    masks = CropMasks.from_labels(labels, scores[:number])
    write_geojson(path, masks)
    assert_same(read_geojson(path, masks.shape), masks)


@pytest.mark.slow
def test_real_nuclei_come_back_exactly(tmp_path):
    convert(SAMPLE, tmp_path, progress=False)
    data = load_coco(tmp_path)
    assert len(data.images) == 8
    for image in data.images:
        masks = data.masks(image)
        write_geojson(tmp_path / "x.geojson", masks)
        assert_same(read_geojson(tmp_path / "x.geojson", masks.shape), masks)


def test_a_feature_is_a_line_as_qupath_reads_it(tmp_path):
    labels = np.zeros((5, 6), int)
    labels[0:3, 0:3], labels[1, 1], labels[4, 0], labels[4, 2] = 1, 0, 2, 2
    write_geojson(tmp_path / "x.geojson", CropMasks.from_labels(labels, [0.7, 0.9]))
    text = (tmp_path / "x.geojson").read_text()
    collection = json.loads(text)
    lines = [json.loads(line.rstrip(",")) for line in text.splitlines()[1:-1]]
    assert collection == {"type": "FeatureCollection", "features": lines}
    first, second = lines
    assert first["geometry"] == {
        "type": "Polygon",
        "coordinates": [
            [[0, 0], [3, 0], [3, 3], [0, 3], [0, 0]],
            [[1, 1], [1, 2], [2, 2], [2, 1], [1, 1]],
        ],
    }
    assert second["geometry"]["type"] == "MultiPolygon"
    assert len(second["geometry"]["coordinates"]) == 2
    properties = first["properties"]
    assert (properties["objectType"], properties["classification"]["name"]) == ("detection", "nucleus")
    assert properties["measurements"] == {"score": 0.7, "area": 8}


def test_tiles_one_by_one_are_the_whole(tmp_path):
    labels = np.arange(1, 13).reshape(3, 4).repeat(2, axis=0).repeat(3, axis=1)
    with GeoJsonWriter(tmp_path / "x.geojson") as writer:
        for y in (0, 2, 4):
            writer.write(CropMasks.from_labels(labels[y : y + 2]), (0, y))
    np.testing.assert_array_equal(read_geojson(tmp_path / "x.geojson", labels.shape).to_labels(), labels)


def test_without_nuclei_it_is_an_empty_collection(tmp_path):
    write_geojson(tmp_path / "x.geojson", CropMasks.empty((4, 5)))
    assert json.loads((tmp_path / "x.geojson").read_text()) == {"type": "FeatureCollection", "features": []}
    assert len(read_geojson(tmp_path / "x.geojson", (4, 5))) == 0


def test_what_is_interrupted_leaves_the_former_file(tmp_path):
    path = tmp_path / "x.geojson"
    path.write_text("former")
    with pytest.raises(KeyboardInterrupt), GeoJsonWriter(path) as writer:
        writer.add(np.ones((2, 2), bool), (0, 0))
        raise KeyboardInterrupt
    assert path.read_text() == "former"
    assert list(tmp_path.iterdir()) == [path]


def test_other_forms_are_read(tmp_path):
    path = tmp_path / "x.geojson"
    triangle = [[[0, 0], [20, 0], [0, 20], [0, 0]]]
    several = {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"], triangle]}
    features = [
        square(measurements=[{"name": "Area", "value": 6}, {"name": "score", "value": 0.5}]),
        {"type": "Feature", "geometry": several, "properties": None},
    ]
    path.write_text(json.dumps(features))
    masks = read_geojson(path, (5, 6))
    np.testing.assert_array_equal(masks.scores, [0.5, 1])
    np.testing.assert_array_equal(masks.boxes, [[1, 1, 4, 3], [0, 0, 6, 5]])
    # Polygons of one nucleus that overlap are joined.
    assert masks.areas.tolist() == [6, 30]
    path.write_text(json.dumps(features[0]))
    assert read_geojson(path, (5, 6)).areas.tolist() == [6]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "3",
        '"text"',
        json.dumps([square(), {"type": "Feature", "geometry": {"type": "Point", "coordinates": [1, 2]}}]),
        json.dumps({"type": "Feature", "geometry": None, "properties": {}}),
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": []}, "properties": {}}),
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[1, 2]]}, "properties": {}}),
        json.dumps({"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[["a", 2]]]}}),
        json.dumps([square(measurements={"score": "high"})]),
        json.dumps({"type": "Feature", "geometry": {**SQUARE, "coordinates": [[[0, 0], [9, float("nan")], [1, 1]]]}}),
        json.dumps({"features": 3}),
    ],
)
def test_what_is_no_outline_is_one_line(tmp_path, text):
    path = tmp_path / "x.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=r"x\.geojson: ") as error:
        read_geojson(path, (9, 9))
    assert len(str(error.value).splitlines()) == 1


def test_what_lies_outside_the_image_is_said(tmp_path):
    path = tmp_path / "x.geojson"
    far = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[[90, 90, 0], [99, 90, 0], [99, 99, 0]]]}}
    path.write_text(json.dumps([square(), far]))
    with pytest.raises(InputError, match="feature 2: not one pixel"):
        read_geojson(path, (5, 6))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.geojson"):
        read_geojson(tmp_path / "none.geojson", (9, 9))
