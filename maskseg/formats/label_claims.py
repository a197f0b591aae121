"""What a label image claims to hold, looked at before anything of it is unpacked."""

from __future__ import annotations

import io
import math
import struct

import numpy as np
import tifffile

from maskseg.core.errors import InputError
from maskseg.core.limits import LABELS, check_claim
from maskseg.imaging.tiff_metadata import check_ome_planes
from maskseg.imaging.tiff_structure import check_structure


def check_label_claims(data: bytes) -> None:
    """Refuse a TIFF, PNG or .npy file whose bytes do not bear out its size, or whose pages lead back to themselves.

    Parameters
    ----------
    data : bytes
        Content of the file.

    Raises
    ------
    InputError
        Without the name of the file. Whatever else is wrong with it, its decoder says.
    """
    if data.startswith(b"\x93NUMPY"):
        _check_npy(data)
    elif data.startswith(b"\x89PNG") and len(data) > 26:
        width, height, depth, _ = struct.unpack_from(">IIBB", data, 16)
        # Grey or a palette of up to 16 bits, or colours.
        check_claim(width * height * 4 * max(depth, 8) // 8, len(data), LABELS, f"{height} x {width} pixels")
    elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        check_structure(data)
        with tifffile.TiffFile(io.BytesIO(data), _multifile=False, is_ndtiff=False, is_mmstack=False) as file:
            check_ome_planes(file)
            for series in file.series:
                size = math.prod(series.shape) * np.dtype(series.dtype).itemsize
                check_claim(size, len(data), LABELS, f"values {series.shape}")
            for page in file.pages:
                if page is not None and page.shape and page.dtype is not None:
                    tiled = page.keyframe is not None and page.keyframe.is_tiled
                    tile = (page.keyframe.tile if tiled and page.keyframe else None) or page.shape
                    check_claim(math.prod(tile) * np.dtype(page.dtype).itemsize, len(data), LABELS, f"pieces {tile}")


def _check_npy(data: bytes) -> None:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    if not dtype.hasobject and any(size < 0 for size in shape):
        raise InputError("a size below 0")
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > len(data) - file.tell():
        raise InputError("the file is cut short")
