"""Regions of interest for ImageJ's ROI Manager: a zip file with one region a nucleus (drag it onto Fiji).

ImageJ counts as QuPath does, pixel (0, 0) covering [0, 1] x [0, 1], and takes a pixel into a region when its centre
lies inside; regions run along the edges of pixels, as those of its wand tool do, so the masks come back exactly.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import Polygon, outlines
from maskseg.formats.writer import WholeWriter

# Beyond it a corner does not fit the two bytes that ImageJ reads as -5000 to 60,535.
_LARGEST_CORNER = 60_535
# Segments of a composite region.
_MOVE, _LINE, _CLOSE = 0, 1, 4


def write_imagej(path: str | os.PathLike[str], masks: CropMasks, names: Sequence[str] = ()) -> None:
    """Write the nuclei of an image as an ImageJ ROI zip, whole or not at all.

    A region is named by the label of its nucleus in the label image (`CropMasks.to_labels`), and has the score as a
    property. A nucleus of one piece without holes is a traced region, any other a composite one. Empty masks are
    left out.

    Parameters
    ----------
    path : path-like
        Ends in .zip.
    masks : CropMasks
    names : sequence of str
        Where there are several classes, what they are called: a region has its class as a property, and is in the
        group of that number, counted from 1, which ImageJ draws in a colour of its own.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    digits = max(4, len(str(len(masks))))
    with write_whole(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for label, (bitmap, box) in enumerate(zip(masks.bitmaps, masks.boxes.tolist(), strict=True), start=1):
            polygons = outlines(bitmap, (box[0], box[1]))
            if polygons:
                roi = _region(polygons)
                roi.name = f"{label:0{digits}d}"
                # str of a float32 has the digits that it needs and no more.
                roi.props = "score: " + str(masks.scores[label - 1]) + "\n"
                if len(names) > 1:
                    kind = int(masks.classes[label - 1])
                    roi.props += f"class: {names[kind]}\n"
                    roi.group = min(kind + 1, 255)
                # Without a time of its own, a zip of the same nuclei has the same bytes.
                archive.writestr(zipfile.ZipInfo(f"{roi.name}.roi"), roi.tobytes(), zipfile.ZIP_DEFLATED)


class ImageJWriter(WholeWriter):
    """An ImageJ ROI zip of each image."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`."""
        write_imagej(self.path, masks, self.image.class_names)


def _region(polygons: list[Polygon]) -> ImagejRoi:
    corners = np.concatenate([polygon[0] for polygon in polygons])
    (left, top), (right, bottom) = corners.min(axis=0).tolist(), corners.max(axis=0).tolist()
    bounds = {"left": left, "top": top, "right": right, "bottom": bottom}
    if len(polygons) == len(polygons[0]) == 1 and max(right, bottom) <= _LARGEST_CORNER:
        return ImagejRoi(
            roitype=ROI_TYPE.TRACED,
            **bounds,
            n_coordinates=len(corners),
            integer_coordinates=corners - np.array([left, top], np.int32),
        )
    path = np.concatenate([_segments(ring) for polygon in polygons for ring in polygon])
    return ImagejRoi(roitype=ROI_TYPE.RECT, **bounds, shape_roi_size=len(path), multi_coordinates=path)


def _segments(ring: np.ndarray) -> np.ndarray:
    """A closed ring as ImageJ's numbers: kind of segment, x, y for each of its points, and the end."""
    segments = np.full((len(ring), 3), _LINE, np.float32)
    segments[0, 0] = _MOVE
    segments[:, 1:] = ring
    return np.append(segments.reshape(-1), np.float32(_CLOSE))
