"""Images of one acquisition: grouped by mosaic, near duplicates, size, colour and texture.

A random split overstates a model: neighbours of the images that it is tested on are among those that it has learned
from. Who keeps such a group in one part measures what a model does on images of another microscope or another day.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree
from scipy.spatial.distance import pdist

# Mean distance of the features of two groups up to which they are one. On DSB 2018 any value from 0.6 to 0.8 agrees
# with the published groups equally well (benchmarks/grouping.py).
DISTANCE = 0.75
_OCTAVES = 5
# Units of one modality that are clustered with each other; the others follow the nearest of these. Bounds the memory.
_SAMPLE = 4000


def acquisition_features(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """What the images of one acquisition have in common, each so scaled that a difference of 1 is a plain one.

    Parameters
    ----------
    image : uint8 array (H, W, 3)
        RGB.

    Returns
    -------
    float64 array (11,)
        Longer and shorter side (a quarter of an octave is 1); background, as the median grey value (an octave is 1);
        the brightest structures (two octaves are 1, for they also depend on the cells); background colour (10 units
        of CIE Lab are 1); and texture: how the contrast is spread over five octaves of size, that is magnification,
        focus and noise (an octave is 1). Contrast is measured on square roots, where photon noise is the same in the
        dark and in the bright.
    """
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    sides = np.log2(sorted(grey.shape))
    median, bright = np.log2(np.percentile(grey, (50, 99)) + 1)
    small = cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    colour = np.median(cv2.cvtColor(small, cv2.COLOR_RGB2LAB).reshape(-1, 3)[:, 1:], axis=0)
    return np.concatenate([4 * sides, [median, bright / 2], colour / 10, _texture(grey)])


def _texture(grey: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Logarithmic shares of the octaves of a Laplacian pyramid in the contrast, float64 (5,)."""
    level = np.sqrt(grey.astype(np.float32))
    contrast = []
    for _ in range(_OCTAVES):
        coarse = cv2.pyrDown(level)
        contrast.append(float((level - cv2.pyrUp(coarse, dstsize=level.shape[::-1])).std()))
        level = coarse
    # A hundredth of a grey level's square root is nothing: a blank image has equal shares.
    shares = np.array(contrast) + 0.01
    return np.log2(shares / shares.sum())


def acquisition_groups(
    features: NDArray[np.float64],
    modalities: Sequence[str],
    mosaics: Sequence[str] = (),
    duplicates: Iterable[tuple[int, int]] = (),
    distance: float = DISTANCE,
) -> list[str]:
    """Group the images of one acquisition.

    The tiles of a mosaic and near duplicates are one from the start. Those of the same modality are then joined by
    average linkage of their mean features: it depends little on how many images there are, where Ward's method would
    divide a large acquisition.

    Parameters
    ----------
    features : float64 array (N, F)
        From `acquisition_features`.
    modalities : sequence of N str
    mosaics : sequence of N str, optional
        An empty one means no tile.
    duplicates : iterable of (int, int)
        Places in the list, from `near_duplicates`.
    distance : float
        Larger values make fewer groups.

    Returns
    -------
    list of N str
        "1", "2", ... in the order of appearance.
    """
    if not modalities:
        return []
    unit = np.array(inseparable(len(modalities), mosaics, duplicates))
    images = np.bincount(unit)
    means = np.stack([np.bincount(unit, column) for column in features.T], axis=1) / images[:, None]
    kinds: list[Counter[str]] = [Counter() for _ in images]
    for index, modality in zip(unit, modalities, strict=True):
        kinds[index][modality] += 1
    kind = np.array([counts.most_common(1)[0][0] for counts in kinds])
    group = np.zeros(len(images), np.int64)
    for name in np.unique(kind):
        members = np.flatnonzero(kind == name)
        group[members] = group.max() + _cluster(means[members], distance)
    number: dict[int, str] = {}
    return [number.setdefault(int(group[index]), str(len(number) + 1)) for index in unit]


def inseparable(count: int, mosaics: Sequence[str] = (), duplicates: Iterable[tuple[int, int]] = ()) -> list[int]:
    """Number of the unit of each image: tiles of one mosaic, and near duplicates, are one unit.

    Parameters
    ----------
    count : int
        Number of images.
    mosaics, duplicates
        As for `acquisition_groups`.
    """
    first: dict[str, int] = {}
    pairs = [(first.setdefault(name, index), index) for index, name in enumerate(mosaics) if name]
    pairs += list(duplicates)
    rows, columns = zip(*pairs, strict=True) if pairs else ((), ())
    joined = coo_array((np.ones(len(pairs), bool), (rows, columns)), shape=(count, count))
    return connected_components(joined, directed=False)[1].tolist()


def _cluster(points: NDArray[np.float64], distance: float) -> NDArray[np.int64]:
    """Clusters, from 1, by average linkage."""
    if len(points) == 1:
        return np.ones(1, np.int64)
    sample = points[np.linspace(0, len(points) - 1, min(len(points), _SAMPLE)).astype(np.int64)]
    label = fcluster(linkage(pdist(sample), "average"), distance, "distance")
    return np.asarray(label[KDTree(sample).query(points)[1]], np.int64)
