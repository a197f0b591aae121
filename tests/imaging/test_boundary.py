"""Files from strangers: whatever their bytes say, an image or one line that names the file, in bounded memory."""

import io
import os
import struct
import zipfile
import zlib

import cv2
import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.imaging import boundary
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import open_source
from maskseg.imaging.tiff_structure import check_piece, check_structure, jpeg2000_size, jpeg_size


def tags(order="<", next_ifd=0, **changes):
    """A TIFF of one page of 8 x 8 grey pixels whose tags are those of `changes`."""
    values = {
        "ImageWidth": (256, 8), "ImageLength": (257, 8), "BitsPerSample": (258, 8), "Compression": (259, 1),
        "Photometric": (262, 1), "StripOffsets": (273, 8), "SamplesPerPixel": (277, 1), "RowsPerStrip": (278, 8),
        "StripByteCounts": (279, 64),
    }  # fmt: skip
    values = {name: (code, changes.pop(name, value)) for name, (code, value) in values.items()}
    pixels, place = bytes(range(64)), 8 + 64
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", place)
    entries = b"".join(struct.pack(order + "HHII", code, 4, 1, value) for code, value in values.values())
    return start + pixels + struct.pack(order + "H", len(values)) + entries + struct.pack(order + "I", next_ifd)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width, height, depth, colour, data):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def opened_and_read(path):
    source = open_source(ImageFile("a", path)).source
    source.read((0, 0, min(source.shape[1], 64), min(source.shape[0], 64)))


@pytest.mark.parametrize("order", "<>")
def test_the_made_up_tiff_can_be_read(order):
    assert read_image(tags(order)).shape == (8, 8, 3)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("link", [72, 8, 70])
def test_a_chain_of_pages_that_leads_back_or_lies_over_itself_ends(tmp_path, order, link):
    data = tags(order, next_ifd=link)
    path = tmp_path / "a.tif"
    path.write_bytes(data)
    for read in (lambda: read_image(data), lambda: read_image(path), lambda: opened_and_read(path)):
        try:
            read()
        except InputError as error:
            assert "\n" not in str(error)


def test_a_chain_of_two_pages_that_lead_to_one_another_is_refused():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        for _ in range(2):
            writer.write(np.zeros((8, 8), np.uint8), contiguous=False)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(data)) as opened:
        first, second = opened.pages[0].offset, opened.pages[1].offset
        count = len(opened.pages[1].tags)
    check_structure(bytes(data))
    struct.pack_into("<I", data, second + 2 + 12 * count, first)
    with pytest.raises(InputError, match="leads back to itself"):
        read_image(bytes(data))


def test_directories_over_one_another_are_refused():
    # Each directory of 3 tags begins 4 bytes after the one before, and has its link where all others have tags.
    data = bytearray(b"II*\0" + struct.pack("<I", 8) + bytes(4000))
    for place in range(8, 3600, 4):
        struct.pack_into("<H", data, place, 0)
        struct.pack_into("<H", data, place + 2, place + 4)
    with pytest.raises(InputError):
        read_image(bytes(data))


def test_levels_that_are_in_the_chain_and_listed_are_read(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        writer.write(np.zeros((64, 64), np.uint8), subifds=2, tile=(16, 16))
        writer.write(np.zeros((32, 32), np.uint8), subfiletype=1, tile=(16, 16))
        writer.write(np.zeros((16, 16), np.uint8), subfiletype=1, tile=(16, 16))
    check_structure(tmp_path / "a.ome.tif")
    opened_and_read(tmp_path / "a.ome.tif")


@pytest.mark.parametrize(
    "changes",
    [
        {"ImageWidth": 100_000, "ImageLength": 100_000},
        {"ImageWidth": 100_000, "ImageLength": 100_000, "RowsPerStrip": 100_000, "StripByteCounts": 0},
        {"ImageLength": 2**32 - 1},
        {"ImageWidth": 2**32 - 1, "ImageLength": 2**32 - 1},
        {"SamplesPerPixel": 65535, "ImageWidth": 65535},
    ],
)
def test_a_small_tiff_does_not_take_the_memory_that_it_claims(tmp_path, changes):
    path = tmp_path / "a.tif"
    path.write_bytes(tags(**changes))
    with pytest.raises(InputError, match=r"a\.tif"):
        read_image(path)
    with pytest.raises(InputError, match=r"a\.tif"):
        opened_and_read(path)


@pytest.mark.parametrize("name", ["ImageWidth", "ImageLength", "BitsPerSample", "SamplesPerPixel", "RowsPerStrip"])
@pytest.mark.parametrize("value", [0, 3, 65535])
def test_tags_of_no_sense_end_in_one_line(tmp_path, name, value):
    path = tmp_path / "a.tif"
    path.write_bytes(tags(**{name: value}))
    for read in (read_image, opened_and_read):
        try:
            read(path)
        except InputError as error:
            assert str(path) in str(error)
            assert "\n" not in str(error)


def test_an_ome_image_of_a_billion_planes_is_refused():
    file = io.BytesIO()
    ome = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels ID="Pixels:0" '
        'DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="8" SizeZ="1000000" SizeC="1" SizeT="1000000">'
        "<TiffData/></Pixels></Image></OME>"
    )
    tifffile.imwrite(file, np.zeros((8, 8), np.uint8), description=ome, metadata=None)
    with pytest.raises(InputError, match="planes"):
        read_image(file.getvalue())


def test_a_large_16_bit_png_is_refused_before_it_is_decoded():
    """A megabyte of zeros becomes 13,300 x 13,300 colours of 16 bits."""
    packed = zlib.compress(bytes(1 << 20))
    with pytest.raises(InputError, match="claims to hold"):
        read_image(png_of(13_300, 13_300, 16, 2, packed))
    with pytest.raises(InputError, match="claims to hold"):
        read_image(png_of(20_000, 20_000, 8, 0, packed))


@pytest.mark.slow
def test_the_limit_is_raised_by_its_variable(monkeypatch):
    rows = zlib.compress(bytes((1 + 7000) * 7000))
    data = png_of(7000, 7000, 8, 0, rows)
    monkeypatch.setenv("MASKSEG_MAX_GB", "0.1")
    with pytest.raises(InputError, match="MASKSEG_MAX_GB"):
        read_image(data)
    monkeypatch.setenv("MASKSEG_MAX_GB", "1")
    assert read_image(data).shape == (7000, 7000, 3)


@pytest.mark.slow
def test_a_zip_member_is_unpacked_as_far_as_it_is_believed(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(InputError, match=r"set\.zip:a\.png: claims to hold"):
        ImageFile("a", path, "a.png").bytes()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a.png", b"a")
    with pytest.raises(InputError, match="deflate"):
        ImageFile("a", path, "a.png").read()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".svs", ".ome.tif", ".zip"])
def test_a_pipe_is_no_image(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    os.mkfifo(path)
    for read in (read_image, opened_and_read, lambda path: ImageFile("a", path).size()):
        with pytest.raises(InputError, match=f"a{suffix}: .*check the path"):
            read(path)
    with pytest.raises(InputError, match=f"a{suffix}"):
        ImageFile("a", path, "b.png").read()


def test_errors_of_the_system_say_what_they_are(tmp_path):
    with (
        pytest.raises(InputError, match=r"a\.png: cannot be read \(Permission denied\); check the path"),
        boundary.untrusted("a.png"),
    ):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(InputError, match=r"^a\.png: damaged or cut short"), boundary.untrusted("a.png"):
        raise OSError("image file is truncated")
    with pytest.raises(InputError, match="memory"), boundary.untrusted("a.png"):
        raise MemoryError
    with pytest.raises(KeyboardInterrupt), boundary.untrusted("a.png"):
        raise KeyboardInterrupt


def test_a_large_uncompressed_tiff_cut_short_is_one_line(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((2000, 3000), np.uint16), metadata=None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    for read in (read_image, opened_and_read):
        with pytest.raises(InputError, match=r"a\.tif"):
            read(path)


def test_zarr_of_zero_shape_and_of_giant_chunks(tmp_path):
    zarr = pytest.importorskip("zarr")
    zarr.create_array(str(tmp_path / "empty.zarr"), shape=(0, 8), chunks=(8, 8), dtype="u1")
    with pytest.raises(InputError, match=r"its shape is \[0, 8\]"):
        ImageFile("a", tmp_path / "empty.zarr").open()
    zarr.create_array(str(tmp_path / "giant.zarr"), shape=(8, 8), chunks=(1 << 17, 1 << 17), dtype="u1")
    with pytest.raises(InputError, match=r"its chunks of .* are larger"):
        ImageFile("a", tmp_path / "giant.zarr").open()


def test_a_damaged_chunk_of_zarr_is_one_line(tmp_path):
    zarr = pytest.importorskip("zarr")
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), shape=(64, 64), chunks=(64, 64), dtype="u1")[:] = 7
    (chunk,) = (file for file in path.rglob("*") if file.is_file() and file.suffix != ".json")
    chunk.write_bytes(b"\x00\x01damaged")
    with pytest.raises(InputError, match=r"a\.zarr"):
        opened_and_read(path)


def shaped_tiff(planes):
    """A TIFF of one pixel that says in words that it holds so many planes of it."""
    file = io.BytesIO()
    shape = f'{{"shape": [{planes}, 1, 1]}}'
    tifffile.imwrite(file, np.zeros((1, 1), np.uint8), description=shape, metadata=None, software="tifffile.py")
    return file.getvalue()


def apng(frames):
    """An animation of one pixel that says that it holds so many frames."""
    still = png_of(1, 1, 8, 0, zlib.compress(b"\0\0"))
    about = chunk(b"acTL", struct.pack(">II", frames, 0))
    first = chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 1, 1, 0, 0, 1, 1, 0, 0))
    return still[:33] + about + first + still[33:]


@pytest.mark.parametrize(("suffix", "data"), [(".tif", shaped_tiff(10_000)), (".png", apng(10_000_000))])
def test_planes_are_believed_as_far_as_there_are_bytes_for_them(tmp_path, suffix, data):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(data)
    for read in (read_image, opened_and_read):
        with pytest.raises(InputError, match=rf"a\{suffix}: claims (to hold )?10+ (planes|frames)"):
            read(path)
    # One image, whose reading says what is wrong, and not one for each plane.
    assert len(find_images([path], Choice(planes={"t": "all", "z": "all"}))) == 1


def test_many_small_planes_are_many_images(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 6, 5), np.uint8), imagej=True, metadata={"axes": "ZYX"})
    assert len(find_images([tmp_path / "a.tif"], Choice(planes={"t": "all", "z": "all"}))) == 300
    monkeypatch.setenv("MASKSEG_MAX_GB", "0.02")
    boundary.check_planes([10_000, 2], b"a")
    with pytest.raises(InputError, match="set MASKSEG_MAX_GB"):
        boundary.check_planes([10_000, 3], b"a")


def progressive(side, passes):
    """A progressive JPEG in which so many passes change nothing."""

    def segment(marker, content):
        return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content

    def scan(about, bits):
        bits += "1" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
        return segment(0xDA, b"\1\1\0" + about) + data

    blocks = (side // 8) ** 2
    tables = segment(0xC4, b"\0" + bytes([1] + [0] * 15) + b"\0") + segment(
        0xC4, b"\x10" + bytes([1] + [0] * 15) + b"\xe0"
    )
    whole, left = divmod(blocks, 16384)
    runs = ("0" + "0" * 14) * (whole - bool(left)) + ("0" + f"{left:014b}") * bool(left)
    empty = b"".join(scan(bytes([1 + k % 63] * 2) + b"\0", runs) for k in range(passes))
    header = segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    return (
        b"\xff\xd8"
        + segment(0xDB, b"\0" + b"\1" * 64)
        + header
        + tables
        + scan(b"\0\0\0", "0" * blocks)
        + empty
        + b"\xff\xd9"
    )


def test_a_jpeg_of_very_many_passes_is_refused_before_it_is_decoded():
    for side, passes in ((6144, 30), (1024, 300)):
        with pytest.raises(InputError, match="goes over its pixels too many times"):
            read_image(progressive(side, passes))
        with pytest.raises(InputError, match="goes over its pixels too many times"):
            check_piece(progressive(side, passes), 7, (side, side))
    assert read_image(progressive(1024, 20)).shape == (1024, 1024, 3)


def test_passes_of_the_small_picture_inside_of_a_jpeg_are_not_counted():
    picture = cv2.imencode(".jpg", np.zeros((8, 8), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    inside = b"\xff\xe1" + struct.pack(">H", 3002) + b"\xff\xda\0" * 1000
    assert read_image(picture[:2] + inside + picture[2:]).shape == (8, 8, 3)


def test_the_size_in_the_header_of_a_piece():
    import imagecodecs

    pixels = np.zeros((40, 72), np.uint8)
    jpeg, jpeg2000 = imagecodecs.jpeg_encode(pixels), imagecodecs.jpeg2k_encode(pixels)
    assert jpeg_size(jpeg) == jpeg2000_size(jpeg2000) == (40, 72)
    assert jpeg_size(b"") is jpeg_size(b"\xff\xd8\xff") is jpeg2000_size(b"\xff\x4f") is None
    check_piece(jpeg, 7, (40, 72))
    place = jpeg.index(b"\xff\xc0") + 5
    bomb = jpeg[:place] + struct.pack(">HH", 65500, 65500) + jpeg[place + 4 :]
    with pytest.raises(InputError, match="65500 x 65500"):
        check_piece(bomb, 7, (40, 72))
