"""Arrays in Zarr that strangers wrote are read in bounded time and memory, or refused in one line."""

import bz2
import gzip
import json
import lzma
import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.zarr_arrays import folder_bytes
from maskseg.core.zarr_codecs import TooMuch, unpack
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import open_source

zarr = pytest.importorskip("zarr", reason="zarr, the extra `slides`, is not installed")
codecs, numcodecs = pytest.importorskip("zarr.codecs"), pytest.importorskip("numcodecs")


def array_2(path, shape, chunks, compressor=None, **changes):
    """The metadata of an array of Zarr 2, and no chunk."""
    path.mkdir(parents=True)
    about = {"zarr_format": 2, "shape": shape, "chunks": chunks, "dtype": "|u1", "fill_value": 0, "filters": None}
    (path / ".zarray").write_text(json.dumps({**about, "order": "C", "compressor": compressor, **changes}))
    return path


def array_3(path, codecs, shape=(64, 64), chunks=(64, 64)):
    path.mkdir(parents=True)
    about = {
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8", "fill_value": 0,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"}, "codecs": codecs,
    }  # fmt: skip
    (path / "zarr.json").write_text(json.dumps(about))
    return path


def sharded(inner, codecs=({"name": "bytes"},)):
    about = {"chunk_shape": inner, "codecs": codecs, "index_codecs": [{"name": "bytes"}]}
    return [{"name": "sharding_indexed", "configuration": about}]


def zstd_of_zeros(count, claimed):
    """A frame of zstd whose blocks of four bytes each become 128 KB."""
    blocks = [struct.pack("<I", (131072 << 3) | 2 | (k == count - 1))[:3] + b"\0" for k in range(count)]
    return struct.pack("<I", 0xFD2FB528) + b"\xc0\x78" + struct.pack("<Q", claimed) + b"".join(blocks)


ZEROS = bytes(32 << 20)
# Packed, by the codec of Zarr 2 that unpacks it: 32 MB each.
BOMBS = {
    "zlib": ({"id": "zlib"}, lambda: zlib.compress(ZEROS)),
    "gzip": ({"id": "gzip"}, lambda: gzip.compress(ZEROS)),
    "gzip in members": ({"id": "gzip"}, lambda: gzip.compress(ZEROS[: 1 << 16]) * 512),
    "bz2": ({"id": "bz2"}, lambda: bz2.compress(ZEROS)),
    "lzma": ({"id": "lzma"}, lambda: lzma.compress(ZEROS)),
    "lzma raw": (
        {"id": "lzma", "format": 3, "filters": [{"id": lzma.FILTER_LZMA2}]},
        lambda: lzma.compress(ZEROS, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}]),
    ),
    "zstd": ({"id": "zstd"}, lambda: zstd_of_zeros(256, 32 << 20)),
    "zstd that lies": ({"id": "zstd"}, lambda: zstd_of_zeros(256, 256)),
    "zstd in frames": ({"id": "zstd"}, lambda: zstd_of_zeros(1, 131072) * 256),
    "lz4": ({"id": "lz4"}, lambda: bytes(numcodecs.LZ4().encode(ZEROS))),
    "blosc": ({"id": "blosc"}, lambda: bytes(numcodecs.Blosc("zstd").encode(ZEROS))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_chunk_is_unpacked_to_the_bytes_of_a_chunk(name):
    codec, make = BOMBS[name]
    data = make()
    tracemalloc.start()
    try:
        with pytest.raises(Exception):  # noqa: B017  each codec has errors of its own
            unpack(codec, data, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    if "lies" not in name:
        assert bytes(unpack(codec, data, len(ZEROS))) == ZEROS


@pytest.mark.parametrize("name", BOMBS)
def test_a_chunk_that_becomes_more_is_one_line(tmp_path, name):
    codec, make = BOMBS[name]
    # As large as makes a file of that size believable.
    path = array_2(tmp_path / "a.zarr", [1024, 1024], [1024, 1024], codec)
    (path / "0.0").write_bytes(make())
    with pytest.raises(InputError, match=r"a\.zarr: its chunk 0\.0 is damaged, or becomes other than 1048576 bytes"):
        read_image(path)


@pytest.mark.parametrize("name", ["gzip", "zstd", "blosc"])
@pytest.mark.parametrize("where", ["chunk", "shard", "packed shard"])
def test_so_is_one_of_zarr_3(tmp_path, name, where):
    data, codec = BOMBS[name][1](), [{"name": "bytes"}, {"name": name}]
    if where == "shard":
        codec = sharded((1024, 512), codec)
        data += struct.pack("<4Q", 0, len(data), *[(1 << 64) - 1] * 2)
    elif where == "packed shard":
        codec = [*sharded((1024, 512)), {"name": name}]
    path = array_3(tmp_path / "a.zarr", codec, (1024, 1024), (1024, 1024))
    (path / "c/0").mkdir(parents=True)
    (path / "c/0/0").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.zarr: its chunk c/0/0 is damaged, or becomes other than"):
        read_image(path)


def test_a_window_of_lzma_and_a_length_of_blosc_are_not_believed():
    raw = {"id": "lzma", "format": 3, "filters": [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 30}]}
    with pytest.raises(TooMuch):
        unpack(raw, b"", 100)
    packed = bytearray(numcodecs.Blosc("zstd").encode(bytes(range(100))))
    struct.pack_into("<I", packed, 12, len(packed) + 1)
    with pytest.raises(EOFError):
        unpack({"id": "blosc"}, bytes(packed), 100)


@pytest.mark.parametrize("codec", [{"id": "zlib"}, {"id": "zstd"}, {"id": "blosc"}, {"id": "lz4"}, None], ids=str)
def test_a_file_larger_than_a_chunk_can_be_is_not_read(tmp_path, codec):
    path = array_2(tmp_path / "a.zarr", [64, 64], [64, 64], codec)
    with (path / "0.0").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(InputError, match=r"its chunk 0\.0 is larger than a chunk can be; get it again"):
        read_image(path)


@pytest.mark.parametrize("version", [2, 3, "shard"])
def test_a_chunk_that_is_a_pipe_is_named_and_not_opened(tmp_path, version):
    path = tmp_path / "a.zarr"
    if version == 2:
        os.mkfifo(array_2(path, [64, 64], [64, 64]) / "0.0")
    else:
        (array_3(path, sharded((8, 8)) if version == "shard" else [{"name": "bytes"}]) / "c/0").mkdir(parents=True)
        os.mkfifo(path / "c/0/0")
    with pytest.raises(InputError, match=r"a\.zarr: its chunk \S+ is a folder, pipe, socket or device and no file"):
        read_image(path)


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize(("shape", "chunk"), [([64, 64], [64, 64]), ([1024, 1024], [1, 1]), ([1 << 14] * 2, [1, 1])])
def test_an_image_of_which_no_chunk_is_there_is_refused_at_once(tmp_path, shape, chunk, separator):
    path = array_2(tmp_path / "a.zarr", shape, chunk, dimension_separator=separator)
    (path / "0.x").write_bytes(b"a")
    (path / "99999.0").write_bytes(b"a")
    for read in (read_image, lambda path: open_source(ImageFile("a", path))):
        with pytest.raises(InputError, match=r"a\.zarr: none of its chunks is there"):
            read(path)


@pytest.mark.parametrize("separator", [".", "/"])
def test_of_a_million_chunks_those_that_are_there_are_read(tmp_path, separator):
    path = array_2(tmp_path / "a.zarr", [1024, 1024], [1, 1], dimension_separator=separator, fill_value=3)
    rows = range(0, 1024, 100)
    for row in rows:
        name = path / f"{row}{separator}{row + 1}"
        name.parent.mkdir(exist_ok=True)
        name.write_bytes(b"\7")
    expected = np.full((1024, 1024), 3)
    expected[rows, [row + 1 for row in rows]] = 7
    np.testing.assert_array_equal(read_image(path)[..., 0], expected)


@pytest.mark.parametrize(
    ("shape", "chunks", "compressor"),
    [
        ([1 << 20] * 2, [1 << 14] * 2, None),  # a slide of a terabyte
        ([64, 64], [1, 1 << 26], "zlib"),  # chunks that reach far beyond the image
        ([64, 64], [1 << 14, 1 << 14], "zlib"),  # one such chunk
        ([1 << 26, 8, 8], [1, 8, 8], None),  # channels
    ],
)
def test_what_the_files_do_not_bear_out_is_refused_at_once(tmp_path, monkeypatch, shape, chunks, compressor):
    path = array_2(tmp_path / "a.zarr", shape, chunks, compressor and {"id": compressor})
    (path / ".".join("0" * len(shape))).write_bytes(b"a")
    for read in (read_image, lambda path: open_source(ImageFile("a", path))):
        with pytest.raises(InputError, match=r"a\.zarr: claims to hold .* MASKSEG_MAX_GB"):
            read(path)
    monkeypatch.setenv("MASKSEG_MAX_GB", "100000")
    if len(shape) == 2:
        ImageFile("a", path).open()


def test_planes_in_one_chunk_and_a_sparse_slide_are_believed(tmp_path):
    for name, shape, chunks in (
        ("deep", [1, 16, 20_000, 20_000], [1, 16, 64, 64]),
        ("sparse", [1, 1, 60_000, 60_000], [1, 1, 512, 512]),
    ):
        path = array_2(tmp_path / f"{name}.zarr", shape, chunks, {"id": "zlib"})
        # Of tissue here and there.
        for k in range(1, 20):
            (path / f"0.0.{k}.{k}").write_bytes(np.random.default_rng(k).bytes(100_000))
        (path / "0.0.0.0").write_bytes(zlib.compress(bytes([7]) * int(np.prod(chunks))))
        chosen = ImageFile("a", path, choice=Choice(planes={"z": "0"})).open()
        assert chosen.values(0, (0, 0, 64, 64)).min() == 7
        assert not chosen.values(0, (19_000, 0, 19_064, 64)).any()


def test_planes_and_channels_are_believed_as_far_as_there_are_bytes_for_them(tmp_path):
    for name, shape in (("planes", [1, 100_000, 8, 8]), ("channels", [100_000, 8, 8])):
        path = array_2(tmp_path / f"{name}.zarr", shape, [1] * (len(shape) - 2) + [8, 8])
        (path / ".".join("0" * len(shape))).write_bytes(bytes(64))
        with pytest.raises(InputError, match=r"\.zarr: claims to hold 100000 planes"):
            ImageFile("a", path).open()
        assert len(find_images([path], Choice(planes={"z": "all"}))) == 1


def test_a_filter_computes_in_larger_numbers_for_which_there_has_to_be_room(tmp_path):
    scaled = {"id": "fixedscaleoffset", "offset": 0, "scale": 3, "dtype": "|u1", "astype": "|u1"}
    path = array_2(tmp_path / "a.zarr", [8000, 8000], [8000, 8000], {"id": "zlib"}, filters=[scaled])
    (path / "0.0").write_bytes(zlib.compress(bytes(8000 * 8000)))
    with pytest.raises(InputError, match="claims to hold a chunk of"):
        read_image(path)


def test_a_file_of_many_names_counts_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1000))
    for k in range(10):
        os.link(tmp_path / "a", tmp_path / f"b{k}")
        (tmp_path / f"c{k}").symlink_to("a")
    assert folder_bytes(tmp_path, 1 << 60) == 1000
    (tmp_path / "d").write_bytes(bytes(1000))
    assert folder_bytes(tmp_path, 1) >= 1 and folder_bytes(tmp_path, 0) == 0


def test_a_folder_that_leads_to_itself_is_gone_through_once(tmp_path):
    path = array_2(tmp_path / "a.zarr", [8] * 8, [1] * 8, dimension_separator="/")
    for k in range(8):
        (path / str(k)).symlink_to(".")
    with pytest.raises(InputError):
        ImageFile("a", path).open()


def test_the_chunks_of_a_shard_may_not_lie_over_one_another(tmp_path):
    path = array_3(tmp_path / "a.zarr", sharded((1, 1)))
    (path / "c/0").mkdir(parents=True)
    shard = path / "c/0/0"
    one = bytes(range(256)) * 16
    lengths = [(k, 1) for k in range(4096)]
    index = np.array(lengths, "<u8")
    shard.write_bytes(one + index.tobytes())
    assert read_image(path)[0, :4, 0].tolist() == [0, 1, 2, 3]
    for wrong in ((0, len(one) // 2), (0, 1 << 62), ((1 << 64) - 9, 1)):
        index[:] = wrong
        shard.write_bytes(one + index.tobytes())
        with pytest.raises(InputError, match=r"a\.zarr: .*(over one another|larger than a chunk)"):
            read_image(path)
    shard.write_bytes(b"short")
    with pytest.raises(InputError, match=r"a\.zarr: a shard of it is damaged or cut short"):
        read_image(path)


@pytest.mark.parametrize(
    "change",
    [
        {"codecs": [{"name": "gzip"}, {"name": "bytes"}]},
        {"codecs": [{"name": "gzip"}]},
        {"codecs": [{"name": "bytes"}, {"name": "bytes"}]},
        {"codecs": [{"name": "transpose", "configuration": {"order": [0, 0]}}, {"name": "bytes"}]},
        {"codecs": [{"name": "bytes", "configuration": {"endian": "middle"}}]},
        {"codecs": sharded((64, 63))},
        {"fill_value": 256},
        {"fill_value": 0.5},
        {"fill_value": "NaN"},
        {"chunk_key_encoding": {"name": "default", "configuration": {"separator": "/../"}}},
        {"chunk_key_encoding": {"name": "v2", "configuration": {"separator": ["x"]}}},
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_together_are_one_line(tmp_path, change):
    path = array_3(tmp_path / "a.zarr", [{"name": "bytes"}])
    about = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps({**about, **change}))
    with pytest.raises(InputError, match=r"a\.zarr: no OME-Zarr image that can be read"):
        read_image(path)
