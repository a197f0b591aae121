import gzip
import json

import numpy as np
import pytest

from maskseg.core.errors import InputError

from .annotated import read_all

SHAPE = (40, 50)


def box(x0, y0, x1, y1):
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


def feature(geometry, kind="annotation", **properties):
    """As QuPath 0.5 writes it."""
    return {
        "type": "Feature",
        "id": "8a2a8f6c-4f1f-4ad5-8ee6-2b0a4a4f7b06",
        "geometry": geometry,
        "properties": {"objectType": kind, **properties},
    }


def polygon(*rings):
    return {"type": "Polygon", "coordinates": list(rings)}


def nuclei(tmp_path, *features):
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": list(features)}))
    return read_all("geojson", tmp_path, SHAPE)[0]["a"]


def test_pieces_holes_and_collections_are_one_nucleus(tmp_path):
    ring = polygon(box(1, 1, 11, 11), box(4, 4, 6, 6))
    pieces = {"type": "MultiPolygon", "coordinates": [[box(20, 1, 22, 3)], [box(24, 1, 26, 3)]]}
    line = {"type": "LineString", "coordinates": [[0, 0], [9, 9]]}
    mixed = {"type": "GeometryCollection", "geometries": [line, polygon(box(30, 30, 33, 33))]}
    found = nuclei(tmp_path, feature(ring), feature(pieces), feature(mixed))
    assert found.masks.areas.tolist() == [96, 8, 9]


def test_an_ellipse_is_drawn_from_its_box(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 30)
    points = np.stack([20 + 10 * np.cos(angle), 15 + 5 * np.sin(angle)], axis=1)
    points[[0, 7, 15, 22], [0, 1, 0, 1]] = 30, 20, 10, 10  # the four ends
    geometry = {**polygon([*points.tolist(), points[0].tolist()]), "isEllipse": True}
    found = nuclei(tmp_path, feature(geometry))
    y, x = np.indices(SHAPE)
    expected = ((x + 0.5 - 20) / 10) ** 2 + ((y + 0.5 - 15) / 5) ** 2 <= 1
    assert (found.masks.to_labels() > 0).sum() == expected.sum()


def test_of_a_cell_the_nucleus_is_taken(tmp_path):
    cell = feature(polygon(box(0, 0, 20, 20)), "cell")
    cell["nucleusGeometry"] = polygon(box(5, 5, 9, 9))
    assert nuclei(tmp_path, cell).masks.areas.tolist() == [16]


def test_classes_and_scores_in_every_way_of_qupath(tmp_path):
    square = polygon(box(1, 1, 5, 5))
    found = nuclei(
        tmp_path,
        feature(square, "detection", classification={"name": "Tumor", "colorRGB": -3670016}),
        feature(polygon(box(6, 6, 9, 9)), classification={"names": ["Tumor", "Positive"], "color": [200, 0, 0]}),
        feature(polygon(box(10, 6, 12, 9)), classification="Stroma", measurements={"score": 0.5}),
        feature(polygon(box(14, 6, 18, 9)), measurements=[{"name": "score", "value": 0.25}], isLocked=True),
    )
    assert found.classes == ["Tumor", "Tumor: Positive", "Stroma", ""]
    assert found.masks.scores.tolist() == [1, 1, 0.5, 0.25]


def test_regions_are_no_nuclei(tmp_path):
    small = [feature(polygon(box(x, 4, x + 3, 7)), "detection") for x in (3, 8, 13)]
    region = feature(polygon(box(0, 0, 30, 20)))
    starred = feature(polygon(box(35, 0, 45, 9)), classification={"name": "Region*"})
    drawn = feature(polygon(box(3, 12, 9, 16)))
    found = nuclei(tmp_path, region, *small, drawn, starred)
    assert found.masks.areas.tolist() == [9, 9, 9, 24]
    assert len(found.left_out) == 2


@pytest.mark.parametrize("version", ["0.2", "0.3", "0.5"])
def test_every_version_of_qupath_says_what_is_an_annotation(tmp_path, version):
    """A type in the id, in object_type, in objectType."""
    objects = [(box(0, 0, 30, 20), "Annotation"), *((box(x, 4, x + 3, 7), "Detection") for x in (3, 8, 13))]
    features = []
    for ring, kind in objects:
        key = {"0.3": "object_type", "0.5": "objectType"}.get(version)
        own = {"id": f"Path{kind}Object"} if version == "0.2" else {}
        properties = {key: kind.lower()} if key else {"isLocked": False}
        features.append({"type": "Feature", **own, "geometry": polygon(ring), "properties": properties})
    found = nuclei(tmp_path, *features)
    assert found.masks.areas.tolist() == [9] * 3
    assert [one.kind for one in found.left_out] == ["region"]


def test_tiles_and_cores_are_no_nuclei(tmp_path):
    core = feature({**polygon(box(0, 0, 30, 20)), "isEllipse": True}, "tmaCore", name="A-1", isMissing=False)
    old_core = {**feature(polygon(box(0, 0, 30, 20))), "id": "TMACoreObject", "properties": {}}
    tile = feature(polygon(box(30, 0, 40, 10)), "tile")
    found = nuclei(tmp_path, core, old_core, tile, feature(polygon(box(4, 4, 7, 7)), "detection"))
    assert found.masks.areas.tolist() == [9]
    assert [one.kind for one in found.left_out] == ["region"] * 3


def test_collections_in_collections_and_bare_geometries_are_read(tmp_path):
    squares = [polygon(box(x, 4, x + 3, 7)) for x in (3, 8, 13)]
    inner = {"type": "FeatureCollection", "features": [feature(squares[1], "detection")]}
    found = nuclei(tmp_path, feature(squares[0], "detection"), inner, [feature(squares[2], "detection")])
    assert found.masks.boxes[:, 0].tolist() == [3, 8, 13]
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "GeometryCollection", "geometries": squares}))
    assert len(read_all("geojson", tmp_path, SHAPE)[0]["a"].masks) == 3


def test_points_and_broken_features_are_left_out_alone(tmp_path):
    good = feature(polygon(box(1, 1, 5, 5)))
    bad = [
        feature({"type": "Point", "coordinates": [3, 4]}),
        feature(None),
        feature(polygon([[1, 1], [2, 2]])),
        feature(polygon([["a", 1], [2, 2], [3, 3]])),
        feature(polygon(box(100, 100, 120, 120))),
        feature({"type": "Polygon", "coordinates": 7}),
        {"type": "Feature"},
        3,
        feature(polygon(box(1, 1, 5, 5)), measurements={"score": "high"}),
    ]
    found = nuclei(tmp_path, *bad, good)
    assert found.masks.areas.tolist() == [16]
    assert len(found.left_out) == len(bad)


def test_planes_of_a_stack_are_not_one_image(tmp_path):
    first, second = (feature({**polygon(box(1, 1, 5, 5)), "plane": {"c": -1, "z": z, "t": 0}}) for z in (0, 1))
    assert len(nuclei(tmp_path, first, first).masks) == 2
    with pytest.raises(InputError, match="2 planes"):
        nuclei(tmp_path, first, second)


@pytest.mark.parametrize("name", ["a.json", "a.geojson", "a.geojson.gz"])
def test_lists_and_packed_files_are_read(tmp_path, name):
    data = json.dumps([feature(polygon(box(1, 1, 5, 5)))]).encode()
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    items, _ = read_all("geojson", tmp_path, SHAPE)
    assert items["a"].masks.areas.tolist() == [16]
