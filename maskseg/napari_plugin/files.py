"""Nuclei in files and napari's Labels layers: results of maskseg are read, layers are written, and sample images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.coco import CocoFile, encoded, to_annotations
from maskseg.formats.geojson import write_geojson
from maskseg.formats.reader import Item
from maskseg.formats.registry import recognise
from maskseg.imaging.reading import read_image

LayerData = tuple[Any, dict[str, Any], str]
# What `maskseg predict` writes, in the order in which it is looked for: the first has scores and the size of images.
_RESULTS = ("predictions.json", "labels", "geojson", "submission.csv")
_HERE = Path(__file__).resolve().parent


def layer_of(masks: CropMasks, name: str) -> LayerData:
    """Nuclei as a Labels layer; `features` has a row for the background and for each label, with its score and area."""
    labels = masks.to_labels()
    numbers = np.arange(len(masks) + 1)
    features = {
        "index": numbers,
        "score": np.concatenate([[np.nan], masks.scores]),
        "area": np.concatenate([[np.nan], masks.areas]),
    }
    return labels, {"name": name, "features": features}, "labels"


def masks_of(data: Any, attributes: dict[str, Any]) -> CropMasks:
    """The nuclei of a Labels layer, with the scores that its features have; 1 where a nucleus was drawn since.

    Raises
    ------
    InputError
        The layer is no image of two dimensions.
    """
    labels = np.asarray(data)
    labels = labels[0] if labels.ndim == 3 and len(labels) == 1 else labels
    if labels.ndim != 2:
        raise InputError(f"{attributes.get('name', 'the layer')}: has {labels.ndim} dimensions; save one plane of it")
    present = np.unique(labels[labels > 0])
    features: Any = attributes.get("features")
    known: dict[int, float] = {}
    if features is not None and "score" in features:
        numbers = features["index"] if "index" in features else range(len(features["score"]))
        known = {int(number): float(score) for number, score in zip(numbers, features["score"], strict=True)}
    scores = np.nan_to_num(np.array([known.get(int(label), 1.0) for label in present], np.float32), nan=1.0)
    return CropMasks.from_labels(labels, scores)


# ---- reading ----


def get_reader(path: str | list[str]) -> Callable[[str | list[str]], list[LayerData]] | None:
    """What reads a path; None where it is nothing that maskseg knows, so that napari asks other plugins."""
    return read if all(_source(Path(one)) for one in ([path] if isinstance(path, str) else path)) else None


def read(path: str | list[str]) -> list[LayerData]:
    """The nuclei of results, or of a file of a format that maskseg reads: a Labels layer for each image.

    Raises
    ------
    InputError
        There are none that can be read.
    """
    layers: list[LayerData] = []
    faults: list[str] = []
    for one in [path] if isinstance(path, str) else path:
        if (source := _source(Path(one))) is None:
            raise InputError(f"{one}: no nuclei that maskseg knows; see the formats in its documentation")
        for item in recognise(source).imported("reader")(source):
            if not isinstance(item, Item):
                continue
            try:
                shape = item.shape or (item.image.size() if item.image else None)
                layers.append(layer_of(item.read(shape).masks, f"{item.image_id} nuclei"))
            except InputError as error:
                faults.append(str(error))
    if not layers:
        raise InputError(faults[0] if faults else f"{path}: no nuclei in it")
    return layers


def _source(path: Path) -> Path | None:
    """The file or folder in which the nuclei of a path are."""
    try:
        if path.is_dir() and (path / "images.csv").is_file():
            inside = [path / name for name in _RESULTS if (path / name).exists()]
            return inside[0] if inside else None
        # By what it holds, and not by its ending alone, as `recognise` may: other plugins read JSON too.
        form = recognise(path)
        return path if form.recognises is not None and form.imported("recognises")(path) else None
    except InputError:
        return None


# ---- writing ----


def write_geojson_file(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer as GeoJSON, as QuPath opens it."""
    write_geojson(path, masks_of(data, attributes))
    return [path]


def write_coco_file(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Write a Labels layer as COCO; with scores where it has any."""
    masks, name = masks_of(data, attributes), str(attributes.get("name") or Path(path).stem)
    record = {"file_name": f"{name}.tif", "height": masks.shape[0], "width": masks.shape[1]}
    with CocoFile(path) as file:
        file.add(record, encoded(to_annotations(masks, scored=bool((masks.scores != 1).any()))))
    return [path]


# ---- sample images ----


def _sample(name: str) -> list[LayerData]:
    image: NDArray[np.uint8] = read_image(_HERE / f"{name}.png")
    grey = bool((image == image[..., :1]).all())
    return [(image[..., 0] if grey else image, {"name": name, "rgb": not grey}, "image")]


def fluorescence() -> list[LayerData]:
    """An image of the 2018 Data Science Bowl (BBBC038, CC0): bright nuclei on black."""
    return _sample("fluorescence")


def tissue() -> list[LayerData]:
    """An image of the 2018 Data Science Bowl (BBBC038, CC0): purple nuclei in tissue."""
    return _sample("tissue")
