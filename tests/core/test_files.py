"""What killed runs leave is swept, and nothing else; what is no file is not read."""

import os
import time

import pytest

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, sweep, write_whole
from maskseg.core.json_files import read_json
from maskseg.core.locks import alone_and_swept
from maskseg.core.xml_files import read_xml
from maskseg.formats.labels import read_labels


def begun(path):
    """What a process that is killed while it writes a file leaves; its name."""
    child = os.fork()
    if child == 0:
        with write_whole(path) as file:
            file.write(b"half")
            file.flush()
            os._exit(1)
    os.waitpid(child, 0)
    (left,) = (other for other in path.parent.iterdir() if other.name.startswith(f".{path.name}."))
    return left


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_what_was_being_written_is_swept_at_any_depth_and_nothing_else(tmp_path):
    left = [begun(tmp_path / name) for name in ("annotations.json", "images/a.b.png", "images/deep/c.tif")]
    others = [tmp_path / name for name in (".DS_Store", "._a.png", ".lock", ".hidden.jpg", "images/a.png", ".x.tar.gz")]
    for path in others:
        path.write_bytes(b"1")
    with alone_and_swept(tmp_path):
        assert not any(path.exists() for path in left)
    # The lock is let go.
    assert [path for path in others if not path.exists()] == [tmp_path / ".lock"]
    sweep(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes in folders")
@pytest.mark.parametrize(
    ("name", "read"), [("a.json", read_json), ("a.json.gz", read_json), ("a.xml", read_xml), ("a.png", read_labels)]
)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name, read):
    path = tmp_path / name
    os.mkfifo(path)
    start = time.monotonic()
    with pytest.raises(InputError, match="a pipe, socket or device and no file"):
        read(path)
    assert time.monotonic() - start < 60


def test_a_file_has_its_bytes_and_what_is_none_says_so(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    assert check_file(tmp_path / "a") == 3
    with pytest.raises(InputError, match="is a folder and no file"):
        check_file(tmp_path)
    with pytest.raises(InputError, match=r"No such file.*; make it"):
        check_file(tmp_path / "b", remedy="make it")
