"""Outlines as SVG, one path a nucleus, for figures and browsers.

The picture is as large as the image, pixel (0, 0) covering [0, 1] x [0, 1]: laid over it at the same size, every
outline runs along the edges of its pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import Ring, outlines
from maskseg.core.xml_files import XmlWriter
from maskseg.formats.classes import colours
from maskseg.formats.overlay import PREDICTION_COLOUR
from maskseg.formats.writer import WholeWriter


def write_svg(path: str | os.PathLike[str], masks: CropMasks, names: Sequence[str] = ()) -> None:
    """Write the outlines of the nuclei of an image, whole or not at all.

    A path has the label of its nucleus in the label image (`CropMasks.to_labels`) as its id, ``nucleus-1`` and so
    on, and label and score as its title, which browsers show under the mouse. Its holes and pieces are subpaths.
    Empty masks are left out.

    Parameters
    ----------
    path : path-like
        Ends in .svg.
    masks : CropMasks
    names : sequence of str
        Where there are several classes, what they are called: each has a colour, and stands in the title.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    height, width = masks.shape
    colour_of = colours(names) if len(names) > 1 else {}
    with write_whole(path, "w", encoding="utf-8") as file:
        xml = XmlWriter(file)
        size = {"width": width, "height": height, "viewBox": f"0 0 {width} {height}"}
        with xml.element("svg", xmlns="http://www.w3.org/2000/svg", **size):
            xml.text("\n")
            stroke = "" if colour_of else f"stroke: rgb{PREDICTION_COLOUR}; "
            # The line keeps its width when the picture is enlarged, and the inside answers to the mouse.
            xml.leaf(
                "style",
                f"path {{ fill: none; {stroke}stroke-width: 1.5; "
                "vector-effect: non-scaling-stroke; pointer-events: all }",
            )
            xml.text("\n")
            for label, (bitmap, box) in enumerate(zip(masks.bitmaps, masks.boxes.tolist(), strict=True), start=1):
                rings = [ring for polygon in outlines(bitmap, (box[0], box[1])) for ring in polygon]
                if rings:
                    name = names[masks.classes[label - 1]] if colour_of else ""
                    own = {"stroke": f"rgb{colour_of[name]}", "class": name} if colour_of else {}
                    with xml.element("path", id=f"nucleus-{label}", d="".join(map(_subpath, rings)), **own):
                        xml.leaf("title", f"{label}: {name}{' ' * bool(name)}{masks.scores[label - 1]:.3f}")
                    xml.text("\n")
        xml.text("\n")


class SvgWriter(WholeWriter):
    """An SVG file of each image."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`."""
        write_svg(self.path, masks, self.image.class_names)


def _subpath(ring: Ring) -> str:
    """A closed ring of horizontal and vertical edges, the last of which SVG draws by itself."""
    (x, y), *others = ring.tolist()
    text = f"M{x} {y}"
    for next_x, next_y in others:
        text += f"H{next_x}" if next_y == y else f"V{next_y}"
        x, y = next_x, next_y
    return text + "Z"
