import io
import struct

import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.formats.labels import read_labels, write_labels


@pytest.mark.slow
def test_labels_of_a_few_nuclei_in_much_background_are_read(tmp_path):
    labels = np.zeros((6000, 6000), np.int32)
    labels[5:20, 5:20] = 70_000
    write_labels(tmp_path / "a.tif", labels)
    assert read_labels(tmp_path / "a.tif").sum() == labels.sum()


@pytest.mark.parametrize("size", [(1 << 20, 1 << 10), (40_000, 40_000)])
def test_a_small_tiff_of_labels_that_claims_gigabytes_is_refused(tmp_path, size):
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((8, 8), np.uint16), metadata=None)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        places = [opened.pages[0].tags[code].offset + 8 for code in (257, 256)]
    for place, length in zip(places, size, strict=True):
        struct.pack_into("<HHI", data, place - 8, *struct.unpack_from("<H", data, place - 8), 4, 1)
        struct.pack_into("<I", data, place, length)
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(InputError, match="claims to hold"):
        read_labels(tmp_path / "a.tif")


def test_numpy_files_that_are_cut_short_and_label_pngs_that_claim_too_much(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((50, 60), np.int32))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="cut short"):
        read_labels(path)
    header = {"descr": "<i4", "fortran_order": False, "shape": (1 << 20, 1 << 20)}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(InputError, match="cut short"):
        read_labels(path)
    png = tmp_path / "a.png"
    png.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60_000, 60_000, 16, 0, 0, 0, 0))
    with pytest.raises(InputError, match="claims to hold"):
        read_labels(png)
