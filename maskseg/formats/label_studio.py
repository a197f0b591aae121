"""Label Studio's JSON exports: polygons, ellipses, rectangles and brushes, whose run lengths are unpacked here."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.rle import Runs, joined, runs_to_crop
from maskseg.formats.costs import check_pixels
from maskseg.formats.drawing import Drawing, number, ring, text
from maskseg.formats.reader import Item, Nuclei, Shape, known_shape
from maskseg.formats.sources import begins_with, json_of, parsing, some_files_of, stated_shape, whole_number
from maskseg.imaging.reading import member_path

_SIGN = re.compile(
    rb'"original_width"\s*:|"(polygon|brush|ellipse|rectangle)labels"\s*:|"completed_by"\s*:|"from_name"\s*:'
)
_KINDS = ("polygonlabels", "brushlabels", "ellipselabels", "rectanglelabels", "labels")
# In a brush, a pixel is set above this.
_HALF = 127


def recognises(source: Path) -> bool:
    """Whether a path is an export of Label Studio, or holds one."""
    return begins_with(source, _SIGN, ".json")


def read(source: Path) -> Iterator[Item]:
    """The tasks of the exports of a folder or zip file, or of one file; of a task the last annotation counts.

    Raises
    ------
    InputError
        If there are none, or one is no export.
    """
    for file in some_files_of(source, ".json"):
        tasks = json_of(file)
        tasks = tasks if isinstance(tasks, list) else [tasks]
        if not all(isinstance(task, dict) for task in tasks):
            raise InputError(f"{file.name}: no export of Label Studio; export it as JSON")
        for place, task in enumerate(tasks, start=1):
            with parsing(f"{file.name}: task {place}"):
                name, regions = _image_of(task), _regions(task)
                sizes = {stated_shape(one.get("original_height"), one.get("original_width")) for one in regions}
            where = f"{file.name}: {name or f'task {place}'}"
            yield Item(
                member_path(name.split("?")[0]).stem or str(place),
                partial(_load, where, regions),
                where,
                sizes.pop() if len(sizes) == 1 else None,
                file_name=name,
                annotation_count=len(regions),
                needs_shape=True,
            )


def _image_of(task: dict[str, Any]) -> str:
    """Address of the image of a task: what is called so, or the first text that is no other thing."""
    data: dict[str, Any] = task["data"] if isinstance(task.get("data"), dict) else task
    named = [data.get(key) for key in ("image", "img", "ocr", "url", "file", "filename")]
    for value in [*named, *data.values(), task.get("file_upload")]:
        if isinstance(value, str) and re.search(r"\.\w{2,5}($|[?#])", value):
            # Of storage on the same machine: /data/local-files/?d=folder/a.png
            return re.sub(r"^.*[?&]d=", "", value)
    return ""


def _regions(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The regions of a task, in the full and in the short form of the export."""
    rounds = task.get("annotations") or task.get("completions")
    if rounds is None:
        # A list for each tool that was drawn with.
        lists = [value for value in task.values() if isinstance(value, list)]
        return [{**one, "value": one} for regions in lists for one in regions if isinstance(one, dict)]
    kept = [one for one in rounds if isinstance(one, dict) and not one.get("was_cancelled")]
    results = kept[-1].get("result") if kept else []
    return [one for one in results or [] if isinstance(one, dict) and isinstance(one.get("value"), dict)]


def _load(where: str, regions: list[dict[str, Any]], shape: Shape | None) -> Nuclei:
    drawing = Drawing(where, known_shape(shape, where))
    for place, region in enumerate(regions, start=1):
        value = region["value"]
        if not _draws(value):
            continue  # an answer about the whole image
        with drawing.annotation(f"region {place}", _class_of(value)):
            _draw(drawing, region, value)
    return drawing.nuclei()


def _draws(value: dict[str, Any]) -> bool:
    return any(key in value for key in ("points", "rle", "radiusX", "width", "x"))


def _class_of(value: dict[str, Any]) -> str:
    labels: Any = next((value[key] for key in _KINDS if value.get(key)), [])
    return text(labels[0]) if isinstance(labels, list) and labels else ""


def _draw(drawing: Drawing, region: dict[str, Any], value: dict[str, Any]) -> None:
    height, width = drawing.shape
    across, down = width / 100, height / 100  # places are per cent
    if "rle" in value:
        tall, wide = (whole_number(region.get(f"original_{side}")) for side in ("height", "width"))
        if (tall, wide) != (height, width):
            raise InputError(f"a brush on {wide} x {tall} pixels, the image has {width} x {height}; paint it again")
        drawing.runs_along_rows(*brush_runs(value["rle"], (height, width)))
    elif "points" in value:
        drawing.polygons([[ring(value["points"], (across, down))]])
    elif "radiusX" in value:
        turned = math.radians(number(value.get("rotation") or 0))
        x, y, right, below = (number(value[key]) for key in ("x", "y", "radiusX", "radiusY"))
        drawing.ellipse(x * across, y * down, right * across, below * down, turned)
    elif "height" in value:
        x, y, right, below = (number(value[key]) for key in ("x", "y", "width", "height"))
        turned = math.radians(number(value.get("rotation") or 0))
        turn = np.array([[math.cos(turned), math.sin(turned)], [-math.sin(turned), math.cos(turned)]])
        corners = np.array([(0, 0), (right * across, 0), (right * across, below * down), (0, below * down)])
        drawing.polygons([[ring(corners @ turn + (x * across, y * down))]])
    else:
        raise InputError("a point has no area; draw a polygon")


def brush(numbers: Any, shape: Shape) -> NDArray[np.bool_]:
    """Pixels of a brush, bool (H, W): see `brush_runs`."""
    check_pixels(shape[0] * shape[1])
    (y0, x0, y1, x1), bitmap = runs_to_crop(*brush_runs(numbers, shape), shape[::-1])
    inside = np.zeros(shape, bool)
    inside[y0:y1, x0:x1] = bitmap.T
    return inside


def brush_runs(numbers: Any, shape: Shape) -> Runs:
    """Runs of a brush from Label Studio's run lengths: bits, of which some words say how many bits the next have.

    The form is that of `@thi.ng/rle-pack`: the count of values (32 bits), the bits of a value less one (5), four times
    the bits of a length less one (4), and runs: one bit, whether a value is repeated; two bits, which of the four
    lengths; the length less one; the value, or the values. The values are red, green, blue and alpha of each pixel.

    Parameters
    ----------
    numbers : list of int
        Bytes.
    shape : (int, int)
        Height and width, to which the count must fit.

    Returns
    -------
    starts, lengths : int64 arrays (R,)
        Along the rows of the image, otherwise as in `maskseg.core.rle`.

    Raises
    ------
    InputError
        If it is malformed or of another size.
    """
    height, width = shape
    if not isinstance(numbers, list) or not all(type(one) is int and 0 <= one < 256 for one in numbers):
        raise InputError("a brush that is no list of bytes; export it again")
    bits = _Bits(bytes(numbers))
    total, size, lengths = bits.take(32), bits.take(5) + 1, [bits.take(4) + 1 for _ in range(4)]
    if total != 4 * height * width or size != 8:
        raise InputError(f"a brush of {total // 4} pixels, the image has {height * width}; paint it again")
    begins: list[int] = []
    ends: list[int] = []
    place = 0
    while place < total:
        repeated, length = bits.take(1), bits.take(lengths[bits.take(2)]) + 1
        if place + length > total:
            raise InputError("a brush with more pixels than it says; export it again")
        # Every fourth value is the alpha of a pixel.
        if not repeated:
            first = -(place + 1) % 4
            painted = [
                place + first + 4 * at for at, value in enumerate(bits.octets(length)[first::4]) if value > _HALF
            ]
            begins += [value // 4 for value in painted]
            ends += [value // 4 + 1 for value in painted]
        elif bits.take(size) > _HALF:
            begins.append(place // 4)
            ends.append((place + length) // 4)
        place += length
    starts = np.array(begins, np.int64)
    return joined(starts, np.array(ends, np.int64) - starts)


class _Bits:
    """The bits of bytes, read one after the other, the highest of a byte first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._count, self._at = data, 8 * len(data), 0

    def take(self, count: int) -> int:
        """The next bits as a number."""
        at, end = self._at, self._at + count
        if end > self._count:
            raise InputError("a brush that is cut short; export it again")
        self._at = end
        number = int.from_bytes(self._data[at >> 3 : (end + 7) >> 3])
        return number >> (-end & 7) & ((1 << count) - 1)

    def octets(self, count: int) -> bytes:
        """As many numbers of eight bits."""
        return self.take(8 * count).to_bytes(count)
