"""Zarr folders are looked at before zarr opens them: numbers in compressors of numbers, and nothing else."""

import json
import os
import pickle
import zlib

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.zarr_checks import zarr_node, zarr_parts
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source

V2 = {
    "zarr_format": 2,
    "shape": [4, 4],
    "chunks": [4, 4],
    "dtype": "<u2",
    "compressor": {"id": "zlib", "level": 1},
    "fill_value": 0,
    "filters": None,
    "order": "C",
}
BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
V3 = {
    "zarr_format": 3,
    "node_type": "array",
    "shape": [4, 4],
    "data_type": "uint16",
    "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [4, 4]}},
    "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
    "fill_value": 0,
    "codecs": [BYTES],
    "attributes": {},
    "storage_transformers": [],
}
GROUP = {2: {"zarr_format": 2}, 3: {"zarr_format": 3, "node_type": "group"}}


def sharded(inner=(2, 2), codecs=(BYTES,), index=(BYTES, {"name": "crc32c"})):
    about = {"chunk_shape": list(inner), "codecs": list(codecs), "index_codecs": list(index)}
    return [{"name": "sharding_indexed", "configuration": about}]


def store(path, about):
    path.mkdir(parents=True, exist_ok=True)
    (path / (".zarray" if about["zarr_format"] == 2 else "zarr.json")).write_text(json.dumps(about))
    return path


def group(path, about, names=("0",), axes="yx"):
    """An OME-Zarr group that names arrays, of which "0" is there."""
    version = about["zarr_format"]
    image = {"multiscales": [{"axes": list(axes), "datasets": [{"path": name} for name in names]}]}
    path.mkdir(parents=True)
    if version == 2:
        (path / ".zgroup").write_text(json.dumps(GROUP[2]))
        (path / ".zattrs").write_text(json.dumps(image))
    else:
        (path / "zarr.json").write_text(json.dumps({**GROUP[3], "attributes": {"ome": image}}))
    store(path / "0", about)
    return path


PICKLE = {"id": "pickle"}
REFUSED = [
    {**V2, "dtype": "|O", "filters": [PICKLE], "compressor": None},
    {**V2, "dtype": "|O", "compressor": PICKLE},
    {**V2, "compressor": PICKLE},
    {**V2, "filters": [PICKLE]},
    *(
        {**V2, "compressor": {"id": name}}
        for name in ("json2", "msgpack2", "vlen-utf8", "base64", "n5_wrapper", 3, None)
    ),
    {**V2, "compressor": "zlib"},
    *({**V2, "dtype": kind} for kind in ("|S4", "<U4", "<M8[s]", "|V8", "<c8", "O", "", None, [["a", "<f4"]], "<f4,O")),
    *({**V2, "filters": [{"id": "delta", key: "|O"}]} for key in ("dtype", "astype")),
    {**V2, "filters": [{"id": "astype", "encode_dtype": "<f4", "decode_dtype": "O"}]},
    {**V2, "filters": [{"id": "fixedscaleoffset", "offset": 0, "scale": 1, "dtype": [["a", "O"]]}]},
    {**V2, "filters": {"id": "delta"}},
    *({**V2, "shape": shape} for shape in ([], [0, 4], [-4, 4], [4.0, 4], [True, 4], [1 << 60, 4], "44", None)),
    *({**V2, "chunks": shape} for shape in ([4], [0, 4], [1 << 20, 1 << 20], None)),
    *({**V2, "fill_value": value} for value in ("gASVHg==", [0], {"a": 1})),
    *({**V3, "codecs": [BYTES, {"name": name}]} for name in ("numcodecs.pickle", "vlen-utf8", "vlen-bytes", None)),
    *({**V3, "codecs": codecs} for codecs in ([], None, "bytes", ["numcodecs.pickle"])),
    {**V3, "codecs": sharded(codecs=[{"name": "numcodecs.pickle"}])},
    {**V3, "codecs": sharded(index=[{"name": "numcodecs.pickle"}])},
    {**V3, "codecs": sharded(codecs=sharded(codecs=sharded(codecs=sharded())))},
    {**V3, "codecs": sharded(index=sharded())},
    *(
        {**V3, "data_type": kind}
        for kind in ("string", "variable_length_bytes", "complex64", "r16", None, {"name": "structured"}, "object")
    ),
    {**V3, "chunk_grid": {"name": "rectangular", "configuration": {"chunk_shape": [4, 4]}}},
    {**V3, "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [1 << 20, 1 << 20]}}},
    {**V3, "storage_transformers": [{"name": "x"}]},
    {**V3, "node_type": "other"},
    {**V3, "zarr_format": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("where", ["array", "group"])
@pytest.mark.parametrize("about", REFUSED, ids=str)
def test_what_is_not_numbers_in_compressors_of_numbers_is_refused_before_zarr_sees_it(
    tmp_path, monkeypatch, about, where
):
    zarr = pytest.importorskip("zarr")
    for name in ("open", "open_array", "open_group"):
        monkeypatch.setattr(zarr, name, lambda *_, **__: pytest.fail("zarr was asked"))
    path = (store if where == "array" else group)(tmp_path / "a.zarr", about)
    with pytest.raises(InputError, match=r"a\.zarr: no OME-Zarr image that can be read") as caught:
        open_source(ImageFile("a", path))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 600


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("consolidated", [False, True])
def test_a_pickled_chunk_does_not_run(tmp_path, consolidated):
    pytest.importorskip("zarr")
    bad = {**V2, "dtype": "|O", "compressor": None, "filters": [PICKLE]}
    path = group(tmp_path / "a.zarr", bad)
    (path / "0" / "0.0").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    if consolidated:
        # What lies beside the arrays says that all is well, and the copy of it in the group does not; or the reverse.
        metadata = {".zgroup": GROUP[2], "0/.zarray": bad, ".zattrs": json.loads((path / ".zattrs").read_text())}
        (path / ".zmetadata").write_text(json.dumps({"zarr_consolidated_format": 1, "metadata": metadata}))
        store(path / "0", V2)
        (path / "0" / "0.0").write_bytes(zlib.compress(bytes(range(32))))
        values = open_source(ImageFile("a", path))[0].values((0, 0, 4, 4))
        assert values.dtype == np.uint16 and values.tobytes() == bytes(range(32))
    else:
        with pytest.raises(InputError, match=r"a\.zarr"):
            open_source(ImageFile("a", path))
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_of_two_formats_in_one_folder_the_one_that_was_looked_at_is_opened(tmp_path):
    pytest.importorskip("zarr")
    path = group(tmp_path / "a.zarr", {**V2, "dtype": "|O", "compressor": None, "filters": [PICKLE]})
    (path / "0" / "0.0").write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    store(path / "0", V3)
    with pytest.raises(InputError, match="no array of Zarr 2"):
        open_source(ImageFile("a", path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["../other", "/0", "", ".", "0/../../other", 3, None, ["0"], "..\\other", "1", "0\0"])
@pytest.mark.parametrize("about", [V2, V3], ids=["2", "3"])
def test_the_arrays_of_a_group_are_in_it(tmp_path, about, name):
    store(tmp_path / "other", about)
    path = group(tmp_path / "a.zarr", about, ["0", name])
    with pytest.raises(InputError, match=r"a\.zarr: no OME-Zarr image"):
        open_source(ImageFile("a", path))


def test_a_group_of_too_many_arrays_is_refused(tmp_path):
    store(tmp_path / "0", V2)
    with pytest.raises(ValueError, match="1 to 64"):
        zarr_parts(tmp_path, ["0"] * 100, 2)


@pytest.mark.parametrize("text", ["", "[", "[]", "3", "[" * 100_000, "\0"])
@pytest.mark.parametrize("name", ["zarr.json", ".zarray", ".zgroup"])
def test_broken_metadata_is_one_error(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError):
        zarr_node(tmp_path)


def test_metadata_that_never_end_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "zarr.json")
    with pytest.raises(ValueError, match="no file"):
        zarr_node(tmp_path)
    (tmp_path / "zarr.json").unlink()
    with (tmp_path / "zarr.json").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="MB"):
        zarr_node(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("kind", ["u1", "i2", "u4", "f4", "f8", "?"])
def test_what_zarr_itself_writes_of_numbers_passes(tmp_path, version, kind):
    zarr = pytest.importorskip("zarr")
    made = zarr.open_group(tmp_path, mode="w", zarr_format=version)
    made.create_array("0", shape=(4, 4), dtype=kind, chunks=(2, 2))[:] = np.ones((4, 4), kind)
    if version == 3:
        made.create_array("1", shape=(4, 4), dtype=kind, chunks=(2, 2), shards=(4, 4))[:] = np.ones((4, 4), kind)
    names = ["0", "1"][: version - 1]
    assert zarr_parts(tmp_path, names, version) == [tmp_path / name for name in names]
    assert not zarr_node(tmp_path).is_array


@pytest.mark.parametrize(
    "change",
    [
        {"compressor": None},
        {"compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}},
        {"filters": [{"id": "delta", "dtype": "<u2", "astype": "<u2"}]},
        {"fill_value": "NaN", "dtype": "<f4"},
        {"filters": []},
    ],
)
def test_numbers_of_zarr_2_pass(tmp_path, change):
    assert zarr_node(store(tmp_path, {**V2, **change})).is_array
