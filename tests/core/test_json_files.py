import gzip

import pytest

from maskseg.core.errors import InputError
from maskseg.core.json_files import read_json, write_json


def test_json_comes_back_also_packed_and_with_a_byte_order_mark(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, "ü\udcff"]}, indent=1)
    assert read_json(tmp_path / "a.json") == {"a": [1, "ü\udcff"]}
    data = (tmp_path / "a.json").read_bytes()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(data))
    (tmp_path / "b.json").write_bytes(b"\xef\xbb\xbf" + data)
    assert read_json(tmp_path / "a.json.gz") == read_json(tmp_path / "b.json") == {"a": [1, "ü\udcff"]}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 200_000], ids=["empty", "cut", "bytes", "deep"])
@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_what_is_no_json_is_one_line(content, name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(content)[: None if content else 5] if name.endswith("gz") else content)
    with pytest.raises(InputError, match=r"a\.json(\.gz)?: not a JSON file .*; export it again") as error:
        read_json(tmp_path / name)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_json(tmp_path / "a.json")
