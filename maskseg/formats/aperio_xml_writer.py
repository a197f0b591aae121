"""Outlines of nuclei for Aperio ImageScope, as `maskseg.formats.aperio_xml` reads them back, exactly."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from maskseg.core.files import write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.outlines import Ring, outlines
from maskseg.formats.aperio_xml import NUCLEUS, OFFSET

_HEAD = f"""\
\t<Annotation Id="1" Name="nuclei" ReadOnly="0" NameReadOnly="0" LineColorReadOnly="0" Incremental="0" Type="4" \
LineColor="65280" Visible="1" Selected="1" MarkupImagePath="" MacroName="">
\t\t<Regions>
\t\t\t<RegionAttributeHeaders>
\t\t\t\t<AttributeHeader Id="9999" Name="Region" ColumnWidth="-1"/>
\t\t\t\t<AttributeHeader Id="9997" Name="Length" ColumnWidth="-1"/>
\t\t\t\t<AttributeHeader Id="9996" Name="Area" ColumnWidth="-1"/>
\t\t\t\t<AttributeHeader Id="1" Name="{NUCLEUS}" ColumnWidth="-1"/>
\t\t\t\t<AttributeHeader Id="2" Name="score" ColumnWidth="-1"/>
\t\t\t</RegionAttributeHeaders>
"""


def write_aperio_xml(
    path: str | os.PathLike[str],
    masks: CropMasks,
    microns_per_pixel: float | None = None,
    offset: tuple[float, float] = OFFSET,
) -> None:
    """Write masks as one layer of regions, whole or not at all.

    Every ring of a nucleus is a region of its own, a hole one with ``NegativeROA``; they carry the number of their
    nucleus, counted from 1, as the attribute `NUCLEUS`. Empty masks have no region.

    Parameters
    ----------
    path : path-like
        Ends in .xml.
    masks : CropMasks
    microns_per_pixel : float, optional
        Side of a pixel in micrometres.
    offset : (float, float)
        What a reader adds to x and y of the vertices so that pixel centres lie at whole numbers; see
        `maskseg.formats.aperio_xml`.
    """
    with write_whole(path, "w", encoding="utf-8") as file:
        scale = f' MicronsPerPixel="{microns_per_pixel}"' if microns_per_pixel else ""
        file.write(f"<Annotations{scale}>\n")
        file.write(_HEAD)
        number = 0
        for nucleus, (bitmap, box) in enumerate(zip(masks.bitmaps, masks.boxes.tolist(), strict=True), start=1):
            attributes = (
                "\t\t\t\t<Attributes>\n"
                f'\t\t\t\t\t<Attribute Name="{NUCLEUS}" Id="1" Value="{nucleus}"/>\n'
                f'\t\t\t\t\t<Attribute Name="score" Id="2" Value="{masks.scores[nucleus - 1]}"/>\n'
                "\t\t\t\t</Attributes>\n"
            )
            for polygon in outlines(bitmap, (box[0], box[1])):
                for place, ring in enumerate(polygon):
                    number += 1
                    file.write(_opening(number, ring, hole=place > 0, scale=microns_per_pixel))
                    file.write(attributes)
                    file.writelines(_vertices(ring - 0.5 - np.array(offset)))
                    file.write("\t\t\t</Region>\n")
        file.write("\t\t</Regions>\n\t\t<Plots/>\n\t</Annotation>\n</Annotations>\n")


def _opening(number: int, ring: Ring, hole: bool, scale: float | None) -> str:
    after = np.roll(ring, -1, axis=0)
    length = np.abs(after - ring).sum()  # along pixel edges
    area = abs(int((ring[:, 0] * after[:, 1].astype(np.int64) - after[:, 0] * ring[:, 1].astype(np.int64)).sum())) / 2
    micrometres = f' LengthMicrons="{length * scale:.1f}" AreaMicrons="{area * scale**2:.1f}"' if scale else ""
    return (
        f'\t\t\t<Region Id="{number}" Type="0" Zoom="1" Selected="0" ImageLocation="" ImageFocus="0" '
        f'Length="{length:.1f}" Area="{area:.1f}"{micrometres} Text="" NegativeROA="{int(hole)}" InputRegionId="0" '
        f'Analyze="1" DisplayId="{number}">\n'
    )


def _vertices(points: np.ndarray) -> Iterator[str]:
    yield "\t\t\t\t<Vertices>\n"
    for x, y in points.tolist():
        yield f'\t\t\t\t\t<Vertex X="{x}" Y="{y}"/>\n'
    yield "\t\t\t\t</Vertices>\n"
