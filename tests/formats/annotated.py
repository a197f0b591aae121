"""What the tests of readers of annotations share."""

import zipfile

import numpy as np

from maskseg.core.masks import CropMasks
from maskseg.formats.reader import Classes, Item
from maskseg.formats.registry import formats
from maskseg.formats.writer import ImageInfo, Joined, write_all

# A nucleus with a hole, one in two pieces that touch at a corner, one inside the hole, one at the edge.
LABELS = np.zeros((14, 18), np.int32)
LABELS[1:8, 1:9] = 1
LABELS[3:6, 3:6] = 0
LABELS[4, 4] = 3
LABELS[9:11, 2:4] = LABELS[11:13, 4:7] = 2
LABELS[8:14, 12:18] = 7
SCORES = [0.5, 0.25, 1, 0.75]

# What formats keep beyond the pixels, and what they lose of them; one that is in none of these keeps the pixels alone.
SCORED = {"coco", "geojson", "imagej", "labelme"}
CLASSED = {"coco", "geojson", "imagej", "labelme", "xml", "yolo"}
LOSES_HOLES = {"folders", "yolo"}
LOSES_PIECES = {"yolo"}


def masks_of(labels=LABELS, scores=None):
    return CropMasks.from_labels(labels, scores)


def read_all(name, source, shape=None):
    """Image id -> Nuclei, and what else the reader of a format gave."""
    items, others = {}, []
    for one in formats()[name].imported("reader")(source):
        if isinstance(one, Item):
            assert one.image_id not in items
            items[one.image_id] = one.read(shape)
        elif not isinstance(one, Classes):
            others.append(one)
    return items, others


def write(name, out, images, file_name="{}.png"):
    """Write images, id -> masks, in a format, as ``export`` does."""
    form = formats()[name]
    joined = []
    for image_id, masks in images.items():
        info = ImageInfo(image_id, masks.shape, file_name.format(image_id), scored=bool((masks.scores != 1).any()))
        writer = form.imported("writer")(info, *form.image_paths(out, image_id, export=True))
        (record,) = write_all([writer], [(masks, masks.shape[0])])
        joined.append(Joined(image_id, info.file_name, record))
    if form.joined:
        form.imported("join")(form.joined_paths(out, export=True), iter(joined))


def pixels(masks):
    """The pixels of each mask, as a set."""
    return [
        frozenset(zip(*(np.argwhere(bitmap) + np.array([y0, x0])).T.tolist(), strict=True))
        for bitmap, (x0, y0) in zip(masks.bitmaps, masks.boxes[:, :2].tolist(), strict=True)
    ]


def assert_same(masks, other):
    assert masks.shape == other.shape
    assert pixels(masks) == pixels(other)
    np.testing.assert_array_equal(masks.scores, other.scores)


def zipped(folder, target):
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder).as_posix())
    return target
