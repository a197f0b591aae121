"""OME-Zarr images (versions 0.4 and 0.5), and Zarr arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError, located
from maskseg.core.optional import need
from maskseg.core.zarr_arrays import ZarrArray
from maskseg.core.zarr_checks import ZarrNode, zarr_node, zarr_parts
from maskseg.imaging.boundary import check_planes
from maskseg.imaging.stored import COLOURS, plausible
from maskseg.imaging.tiff_metadata import microns_in
from maskseg.imaging.windows import Box

_AXES = "tczyx"
# What bioformats2raw says at the top of a folder in which each image has a folder of its own.
_LAYOUT = "bioformats2raw.layout"


class ZarrStored:
    """An image in Zarr; a `Stored`."""

    pages_unknown = False
    images: Sequence[str] = ("",)

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        need("numcodecs", "slides", f"{self.name}: Zarr")
        scale: tuple[float, float] | None = None
        names: list[str] = []
        try:
            path = _of_series(Path(path))
            node, parts = zarr_node(path), [path]
            if not node.is_array:
                attributes = _about(node)
                image = attributes["multiscales"][0]
                listed = image.get("axes", list(_AXES))
                axes = [axis if isinstance(axis, str) else axis["name"] for axis in listed]
                units = [axis.get("unit") if isinstance(axis, dict) else None for axis in listed]
                parts = zarr_parts(path, [item["path"] for item in image["datasets"]], node.zarr_format)
                scale = _scale(image["datasets"][0], axes, units)
                names = [str(channel.get("label", "")) for channel in attributes.get("omero", {}).get("channels", [])]
            self._arrays = [ZarrArray(part) for part in parts]
            if node.is_array:
                shape = self._arrays[0].shape
                axes = list("yx" if len(shape) == 2 else "yxc" if len(shape) == 3 and shape[-1] <= 4 else _AXES)
                axes = axes[-len(shape) :] if axes == list(_AXES) and len(shape) != 3 else axes
                axes = list("cyx") if axes == list(_AXES) else axes
            sizes = dict(zip(axes, self._arrays[0].shape, strict=True))
            y, x = axes.index("y"), axes.index("x")
        except InputError as error:
            raise InputError(located(self.name, error)) from error
        except Exception as error:  # of whatever kind; all mean the same here
            reason = " ".join(str(error).split())[:300]
            raise InputError(f"{self.name}: no OME-Zarr image that can be read ({reason}); check the path") from error
        if any(size > 1 for axis, size in sizes.items() if axis not in _AXES):
            raise InputError(f"{self.name}: it holds {sizes}; save one plane of it")
        if any(len(array.shape) != len(axes) for array in self._arrays):
            raise InputError("its levels have not all the same axes; get it again")
        for array in self._arrays:
            array.check_claims(axes.index(axis) for axis in "cyx" if axis in axes)
        self._arrays[0].check_any()
        self._axes = axes
        self.shapes = [(array.shape[y], array.shape[x]) for array in self._arrays]
        self.dtype = np.dtype(self._arrays[0].dtype)
        self.planes: Mapping[str, int] = {axis: sizes[axis] for axis in "zt" if sizes.get(axis, 1) > 1}
        count = sizes.get("c", 1)
        check_planes([count], Path(path))
        # The last axis of an array that is no OME-Zarr is that of colours.
        colours = count == len(COLOURS) and axes[-1] == "c"
        self.channels: Sequence[str] = names if len(names) == count else COLOURS if colours else [""] * count
        self.rgb = [name.lower() for name in self.channels] in (list(COLOURS), ["r", "g", "b"])
        self.mpp = plausible(*scale) if scale else None

    def values(self, level: int, box: Box, channels: Sequence[int], plane: Mapping[str, int]) -> NDArray[Any]:
        """See `maskseg.imaging.stored.Stored`."""
        x0, y0, x1, y1 = box
        # A slice and not a list: each chunk is read once.
        first, last = min(channels), max(channels) + 1
        wanted: dict[str, Any] = {"y": slice(y0, y1), "x": slice(x0, x1), "c": slice(first, last), **plane}
        part = np.asarray(self._arrays[level][tuple(wanted.get(axis, 0) for axis in self._axes)])
        left = [axis for axis in self._axes if axis in "cyx"]
        # Whatever their order is: it is the names that count.
        if "c" not in left:
            return part.transpose([left.index(axis) for axis in "yx"])[..., None]
        part = part.transpose([left.index(axis) for axis in "yxc"])
        inside = [channel - first for channel in channels]
        return part if inside == list(range(part.shape[2])) else part[..., inside]

    def close(self) -> None:
        """See `maskseg.imaging.stored.Stored`."""


def is_zarr_image(path: Path) -> bool:
    """Whether a folder in a Zarr store is an image: one of several, of which each has a folder of its own."""
    try:
        node = zarr_node(path)
    except Exception:  # of whatever folder
        return False
    return node.is_array or "multiscales" in _about(node)


def _about(node: ZarrNode) -> dict[str, Any]:
    """What OME-Zarr says of a group; version 0.5 has it in a place of its own."""
    about = node.attributes.get("ome", node.attributes)
    if not isinstance(about, dict):
        raise ValueError("its metadata are no keys with values")
    return about


def _of_series(path: Path) -> Path:
    """The folder of the image in a Zarr folder: of the only one, where bioformats2raw has given each its own.

    Raises
    ------
    InputError
        There are several.
    """
    node = zarr_node(path)
    about = _about(node)
    if node.is_array or "multiscales" in about or _LAYOUT not in about:
        return path
    try:
        names = _about(zarr_node(path / "OME"))["series"]
    except (KeyError, ValueError):
        # It may be left out: then they are counted.
        names = [child.name for child in path.iterdir() if child.name.isdecimal() and child.is_dir()]
    # Of a name that leads elsewhere nothing is looked up.
    inside = [name for name in names if isinstance(name, str) and name not in ("", ".", "..") and "/" not in name]
    series = sorted((name for name in inside if is_zarr_image(path / name)), key=lambda name: (len(name), name))
    if not series:
        raise ValueError("it holds no image")
    if len(series) > 1:
        listed = ", ".join(series if len(series) <= 12 else [*series[:10], "...", series[-1]])
        raise InputError(f"it holds {len(series)} images ({listed}); name one of them, such as {path / series[0]}")
    return path / series[0]


def _scale(dataset: dict[str, Any], axes: list[str], units: list[str | None]) -> tuple[float, float] | None:
    """Width and height of a pixel in micrometres."""
    for step in dataset.get("coordinateTransformations", []):
        across, down = (microns_in(units[axes.index(axis)]) for axis in "xy")
        if step["type"] == "scale" and across and down:
            width, height = (float(step["scale"][axes.index(axis)]) for axis in "xy")
            return width * across, height * down
    return None
