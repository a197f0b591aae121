"""GeoJSON to nuclei: what maskseg wrote, and what QuPath exports once a person has corrected it.

Of a QuPath cell the outline of its nucleus is taken. An annotation around several other objects is a region that
somebody marked, and no nucleus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.outlines import Polygon
from maskseg.formats.drawing import Drawing, number, ring, text
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, known_shape
from maskseg.formats.reviewed import REVIEWED, is_mark
from maskseg.formats.sources import begins_with, files_of, first_bytes, json_of, parsing, some_files_of
from maskseg.imaging.reading import ImageFile

_SIGN = re.compile(
    rb'"type"\s*:\s*"(Feature|FeatureCollection|GeometryCollection|(Multi)?Polygon)"|"geometry"\s*:\s*\{'
)
_ENDINGS = (".geojson", ".geojson.gz", ".json", ".json.gz")
# An annotation is a region if so many others lie in it, and it has so many times their area.
_INSIDE, _LARGER = 2, 4
# Collections in collections, of features and of geometries.
_DEEPEST = 4
# Names that QuPath gives to classes of regions end so.
_REGION_MARK = "*"
# Objects of QuPath that are no nuclei, whatever they hold: cores of a tissue array, tiles to measure in.
_NO_NUCLEI = {"tmacore": "core of a tissue array", "tile": "tile", "root": "root object"}


def recognises(source: Path) -> bool:
    """Whether a path is a GeoJSON file, or a folder or zip file with such files."""
    try:
        if files_of(source, ".geojson", ".geojson.gz"):
            return True
    except InputError:
        return False
    return begins_with(source, _SIGN, ".json")


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The GeoJSON files of a folder or zip file, or one of them; each is for the image of the same name.

    Classifications become classes, the measurement ``score`` the score.

    Raises
    ------
    InputError
        If there are none.
    """
    files = some_files_of(source, *_ENDINGS)
    marked = [file for file in files if ".geojson" in file.name.rpartition("/")[2].lower()]
    files = marked or [file for file in files if _SIGN.search(first_bytes(file))] or files
    for file in files:
        name = re.sub(r"\.(geojson|json)$", "", file.id, flags=re.IGNORECASE)
        yield Item(name, partial(load, file), file.name, needs_shape=True)


def load(file: ImageFile, shape: Shape | None) -> Nuclei:
    """The nuclei of a GeoJSON file; features at fault are left out."""
    drawing = Drawing(file.name, known_shape(shape, file.name))
    with parsing(file.name):
        features = _features(json_of(file))
        planes = {_plane(feature) for feature in features if not _is_mark(feature)} - {None}
        if len(planes) > 1:
            raise InputError(f"{file.name}: its objects lie on {len(planes)} planes of a stack; export each for itself")
        regions = []
        for place, feature in enumerate(features, start=1):
            properties = feature.get("properties") if isinstance(feature, dict) else None
            properties = properties if isinstance(properties, dict) else {}
            name = REVIEWED if _is_mark(feature) else _class_of(properties)
            if name.endswith(_REGION_MARK):
                drawing.leave_out(
                    f"feature {place}", f"the class {name} is one of regions; give a nucleus another one", "region"
                )
                continue
            kind = _kind_of(feature, properties)
            if kind in _NO_NUCLEI:
                drawing.leave_out(f"feature {place}", f"a {_NO_NUCLEI[kind]} is no nucleus; delete it", "region")
                continue
            with drawing.annotation(f"feature {place}", name):
                _draw(drawing, feature)
                drawing.score(_score(properties))
                if kind == "annotation" and name != REVIEWED:
                    regions.append((drawing.count - 1, f"feature {place}"))
        _without_regions(drawing, regions)
    return drawing.nuclei()


def _features(data: Any, depth: int = 0) -> list[Any]:
    """All features of a collection, a list, or one feature; also of collections in these."""
    if isinstance(data, dict):
        data = data["features"] if "features" in data else _of_geometry(data)
    features = data if isinstance(data, list) else [data]
    if depth == _DEEPEST or not any(isinstance(one, list) or _is_collection(one) for one in features):
        return features
    return [
        feature
        for one in features
        for feature in (_features(one, depth + 1) if isinstance(one, list) or _is_collection(one) else [one])
    ]


def _of_geometry(data: dict[str, Any]) -> list[Any]:
    """A feature, or the features of a geometry that stands alone, as Shapely and QuPath's scripts write it."""
    if data.get("type") == "GeometryCollection" and isinstance(data.get("geometries"), list):
        return [{"geometry": one} for one in data["geometries"]]
    return [{"geometry": data}] if "coordinates" in data else [data]


def _is_collection(value: Any) -> bool:
    return isinstance(value, dict) and "features" in value


def _kind_of(feature: Any, properties: dict[str, Any]) -> str:
    """What kind of object QuPath says that a feature is, in small letters: as of version 0.4, 0.3 and 0.2."""
    kind = text(properties.get("objectType") or properties.get("object_type"))
    if not kind and isinstance(feature, dict):
        kind = "".join(re.findall(r"^(?:Path)?(Annotation|TMACore|Tile|Root)Object$", text(feature.get("id"))))
    return kind.lower().replace("_", "")


def _geometry_of(feature: Any) -> dict[str, Any]:
    geometry = feature.get("nucleusGeometry") or feature.get("geometry") if isinstance(feature, dict) else None
    if not isinstance(geometry, dict):
        raise InputError("holds no polygon; export outlines as Polygon or MultiPolygon")
    return geometry


def _plane(feature: Any) -> tuple[str, str] | None:
    geometry = feature.get("geometry") if isinstance(feature, dict) else None
    plane = geometry.get("plane") if isinstance(geometry, dict) else None
    return (text(plane.get("z", 0)), text(plane.get("t", 0))) if isinstance(plane, dict) else None


def _draw(drawing: Drawing, feature: Any) -> None:
    geometry = _geometry_of(feature)
    polygons = list(_polygons(geometry))
    if not polygons:
        raise InputError(f"holds no polygon (it is a {text(geometry.get('type'))}); draw the outline of the nucleus")
    if geometry.get("isEllipse") is True:
        # QuPath draws it anew from the box of the points.
        low, high = polygons[0][0].min(axis=0), polygons[0][0].max(axis=0)
        drawing.ellipse(*((low + high) / 2), *((high - low) / 2))
    else:
        drawing.polygons(polygons)


def _polygons(geometry: dict[str, Any], depth: int = 0) -> Iterator[Polygon]:
    """All polygons of a geometry; points and lines beside them have no pixels."""
    kind = geometry.get("type")
    if kind == "GeometryCollection" and depth < _DEEPEST:
        for part in geometry["geometries"]:
            yield from _polygons(part, depth + 1)
    elif kind in ("Polygon", "MultiPolygon"):
        coordinates = geometry["coordinates"]
        for polygon in [coordinates] if kind == "Polygon" else coordinates:
            if not polygon:
                raise InputError("holds no polygon: there are no points; draw the outline of the nucleus")
            yield [ring(points) for points in polygon]


def _is_mark(feature: Any) -> bool:
    """Whether a feature marks what was reviewed, by its name or its class."""
    properties = feature.get("properties") if isinstance(feature, dict) else None
    if not isinstance(properties, dict):
        return False
    return is_mark(text(properties.get("name"))) or is_mark(_class_of(properties))


def _class_of(properties: dict[str, Any]) -> str:
    known = properties.get("classification")
    if isinstance(known, dict):
        names = known.get("names")  # QuPath 0.4 and newer
        known = known.get("name") or (": ".join(map(text, names)) if isinstance(names, list) else "")
    return text(known)


def _score(properties: dict[str, Any]) -> float:
    measurements = properties.get("measurements") or {}
    if isinstance(measurements, list):  # as QuPath wrote them before version 0.4
        measurements = {item["name"]: item["value"] for item in measurements}
    return number(measurements.get("score", 1))


def _without_regions(drawing: Drawing, candidates: list[tuple[int, str]]) -> None:
    """Leave out annotations around other objects, which are regions of interest."""
    boxes, areas = drawing.boxes, drawing.areas
    usual = np.median(areas) if len(areas) else 0
    centres = (boxes[:, :2] + boxes[:, 2:]) // 2
    regions = {}
    for index, place in candidates:
        if areas[index] < _LARGER * usual:
            continue
        x0, y0, x1, y1 = boxes[index]
        near = (centres >= (x0, y0)).all(axis=1) & (centres < (x1, y1)).all(axis=1) & (areas * _LARGER <= areas[index])
        inside = np.count_nonzero(drawing.bitmaps[index][centres[near, 1] - y0, centres[near, 0] - x0])
        if inside >= _INSIDE:
            regions[index] = f"a region around {inside} others, and no nucleus; delete it"
            drawing.leave_out(place, regions[index], "region")
    drawing.drop(set(regions))
