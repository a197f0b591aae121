"""What killed runs leave is swept, and nothing else; what is no file is not read."""
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH109, PTH123, PTH208, PTH211

import os
import time

import pytest

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, refuse_closed, remove_leftovers, walk, write_whole
from maskseg.core.json_files import read_json
from maskseg.core.locks import alone_and_swept, alone_in, sweep
from maskseg.core.xml_files import read_xml
from maskseg.formats import registry
from maskseg.formats.labels import read_labels
from maskseg.formats.sources import files_of
from maskseg.imaging.finding import find_images


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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_what_was_being_written_is_swept_at_any_depth_and_nothing_else(tmp_path):
    left = [begun(tmp_path / name) for name in ("annotations.json", "images/a.b.png", "images/deep/c.tif")]
    others = [tmp_path / name for name in (".DS_Store", "._a.png", ".lock", ".hidden.jpg", "images/a.png", ".x.tar.gz")]
    # Hidden names of eight characters at their end, of which another program or a person may have any.
    others += [
        tmp_path / name for name in (".notes.txt.original", ".a.png.archived", "deep/.old.project.settings/a.txt")
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"1")
    remove_leftovers(tmp_path, {"a.png", "notes.txt"})
    with alone_and_swept(tmp_path):
        assert not any(path.exists() for path in left)
    # The lock is let go.
    assert [path for path in others if not path.exists()] == [tmp_path / ".lock"]
    sweep(tmp_path / "missing")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_what_another_run_writes_in_a_folder_below_is_left_alone(tmp_path):
    below = tmp_path / "below"
    left = begun(below / "deep" / "a.png")
    with alone_in(below), alone_and_swept(tmp_path):
        assert left.exists()
    with alone_and_swept(tmp_path):
        assert not left.exists()


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="the system opens links")
def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"\.lock: cannot be written"), alone_in(tmp_path / "out"):
        pass
    assert not (tmp_path / "elsewhere").exists()


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


@pytest.mark.slow
def test_folders_of_any_depth_are_gone_through_and_links_only_where_asked(tmp_path):
    here = os.getcwd()
    os.chdir(tmp_path)
    try:
        for _ in range(1500):
            os.mkdir("d")
            os.chdir("d")
        with open("a.json", "w") as file:
            file.write("{}")
    finally:
        os.chdir(here)
    os.symlink(tmp_path, tmp_path / "link")
    found = [name for _, _, names in walk(tmp_path, refuse_closed) for name in names]
    assert found == ["a.json"]
    assert [file.id for file in files_of(tmp_path, ".json")] == ["a"]
    with pytest.raises(InputError, match="no image found"):
        find_images([tmp_path])
    # Python's own removal goes into each folder by a call of its own.
    os.chdir(tmp_path)
    try:
        while True:
            os.rename("d/d", "e")
            for name in os.listdir("d"):
                os.unlink(f"d/{name}")
            os.rmdir("d")
            os.rename("e", "d")
    except FileNotFoundError:
        os.chdir(here)


@pytest.mark.parametrize("form", ["labelme", "folders", "labels"])
def test_no_folder_of_annotations_goes_by_unread(tmp_path, closed, form):
    with pytest.raises(InputError, match=r"closed: cannot be read \(Permission denied\)"):
        list(registry.formats()[form].imported("reader")(tmp_path))
