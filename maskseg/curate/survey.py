"""What a division needs to know of a data set: modality, mosaic, acquisition and near duplicates of each image."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.convert.mosaic_search import Edges, edges, find_mosaics
from maskseg.core.errors import InputError
from maskseg.core.processes import in_order
from maskseg.curate.groups import acquisition_features, acquisition_groups, inseparable
from maskseg.curate.modality import Colours, colours, infer_modality
from maskseg.curate.near_duplicates import NearDuplicate, near_duplicates, thumbnail
from maskseg.data.dataset import CocoData, image_id
from maskseg.imaging.reading import read_image


class ImageFeatures(NamedTuple):
    """What is kept of an image: its edges and 5 kB."""

    edges: Edges | None  # of more than a line of pixels
    colours: Colours
    thumbnail: NDArray[np.float32]
    features: NDArray[np.float64]


def image_features(image: NDArray[np.uint8]) -> ImageFeatures:
    """Measure an image, uint8 (H, W, 3)."""
    return ImageFeatures(
        edges(image) if min(image.shape[:2]) > 1 else None,
        colours(image),
        thumbnail(image),
        acquisition_features(image),
    )


# Stands for an image that cannot be read: without contrast it is like no other.
_NOTHING = image_features(np.zeros((1, 1, 3), np.uint8))


@dataclass(frozen=True)
class Survey:
    """Of N images, in the order of the data set.

    Attributes
    ----------
    ids, modalities, mosaics, groups : lists of N str
        ``""`` where an image cannot be read and no table gives its modality, and where it is no tile.
    units : list of N str
        Images with the same one must stay together: tiles of a mosaic, near duplicates, pieces of one image.
    duplicates : list of NearDuplicate
    inferred : set of str
        Images whose modality is judged by their colours.
    unreadable : list of str
        What is wrong with the images that cannot be read, one line each.
    """

    ids: list[str]
    modalities: list[str]
    mosaics: list[str]
    groups: list[str]
    units: list[str]
    duplicates: list[NearDuplicate]
    inferred: set[str]
    unreadable: list[str]


def survey(
    data: CocoData, modalities: Mapping[str, str], mosaics: Mapping[str, str] | None = None, workers: int = 1
) -> Survey:
    """Look at every image of a data set.

    Parameters
    ----------
    data : CocoData
    modalities : mapping of image id to str
        What a table gives. A modality that is neither there nor in the data set is inferred.
    mosaics : mapping of image id to str, optional
        What a table gives; else mosaics are found by the edges of their tiles.
    workers : int
        Processes; the result is the same for any number.
    """
    ids = [image_id(image) for image in data.images]
    files = [data.path.parent / "images" / image["file_name"] for image in data.images]
    with closing(in_order(_read, files, workers)) as results:
        features = list(tqdm(results, desc="look", unit="image", total=len(files), leave=False, disable=None))
    unreadable = [str(item) for item in features if isinstance(item, InputError)]
    kinds, inferred = [], set()
    for name, image, item in zip(ids, data.images, features, strict=True):
        kind = modalities.get(name) or image.get("modality") or ""
        if not kind and isinstance(item, ImageFeatures):
            kind = infer_modality(item.colours)
            inferred.add(name)
        kinds.append(kind)
    if mosaics is None:
        mosaics = _found_mosaics(ids, features)
    tiles = [mosaics.get(name, "") for name in ids]
    seen = [item if isinstance(item, ImageFeatures) else _NOTHING for item in features]
    duplicates = near_duplicates([item.thumbnail for item in seen])
    pairs = [(pair.first, pair.second) for pair in duplicates] + _pieces(data.images)
    groups = acquisition_groups(np.stack([item.features for item in seen]), kinds, tiles, pairs)
    units = [str(unit) for unit in inseparable(len(ids), tiles, pairs)]
    return Survey(ids, kinds, tiles, groups, units, duplicates, inferred, unreadable)


def _pieces(images: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """Neighbours in the list of images of the same ``group``: the pieces that a converter cut a tissue image into."""
    members: dict[str, list[int]] = defaultdict(list)
    for place, image in enumerate(images):
        if image.get("group"):
            members[image["group"]].append(place)
    return [pair for places in members.values() for pair in pairwise(places)]


def _found_mosaics(ids: list[str], features: list[ImageFeatures | InputError]) -> dict[str, str]:
    """Tiles of the mosaics found: image id -> number of the mosaic, from 1."""
    tiles = {
        name: item.edges
        for name, item in zip(ids, features, strict=True)
        if isinstance(item, ImageFeatures) and item.edges is not None
    }
    return {name: str(number) for number, mosaic in enumerate(find_mosaics(tiles), 1) for name in mosaic}


def _read(file: Path) -> ImageFeatures | InputError:
    try:
        return image_features(read_image(file))
    except InputError as error:
        return error
