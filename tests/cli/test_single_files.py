"""Commands that write one file: whole or not at all, and never over what they read or over another kind of file."""

import os
import shutil
import subprocess
import sys

import pytest

from maskseg.cli import main as cli
from tests import kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot"),
]
# The words of a command before its file, and the ending of that.
COMMANDS = {
    "findings": (["check", "data", "--workers", 1, "--table"], ".csv"),
    "page of findings": (["check", "data", "--workers", 1, "--page"], ".html"),
    "page of data": (["report", "data", "data", "-o"], ".html"),
    "page of a run": (["report", "run", "--truth", "data", "--pred", "data", "-o"], ".html"),
    "model": (["models", "export", "nuclei", "-o"], ".safetensors"),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    kills.write_source(folder)
    return folder


@pytest.fixture(params=sorted(COMMANDS))
def command(request, source, monkeypatch, capsys):
    """A function that runs a command into a file; its exit status, and what it said. The file's ending."""
    words, ending = COMMANDS[request.param]
    monkeypatch.chdir(source)

    def run(path):
        monkeypatch.setattr("sys.argv", ["maskseg", *map(str, words), str(path)])
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
        return status, capsys.readouterr().err

    return run, ending


def is_one_line(ended, *words):
    status, said = ended
    lines = [line for line in said.splitlines() if line.startswith("maskseg: error:")]
    assert (status, len(lines)) == (2, 1), said
    assert all(word in lines[0] for word in words), said
    assert "Traceback" not in said


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_file_is_not_written_over_what_is_read_or_over_something_else(command, source, tmp_path):
    run, ending = command
    (tmp_path / "folder").mkdir()
    (tmp_path / "mine.txt").write_text("mine")
    before = contents(source), contents(tmp_path)
    is_one_line(run(tmp_path / "folder"), "is a folder")
    is_one_line(run(tmp_path / "mine.txt"), "mine.txt: is there already")
    is_one_line(run("data/annotations.json"), "annotations.json: is there already")
    is_one_line(run("data/images/image_00.png"), "image_00.png: is there already")
    is_one_line(run(tmp_path / "mine.txt" / f"new{ending}"), "cannot be written")
    assert (contents(source), contents(tmp_path)) == before


def test_a_link_to_nothing_and_a_former_file_give_place_to_the_whole_file(command, tmp_path):
    run, ending = command
    for name in (f"link{ending}", f"former{ending}"):
        path = tmp_path / name
        if name.startswith("link"):
            path.symlink_to(tmp_path / "gone" / name)
        else:
            path.write_bytes(b"former")
        assert run(path)[0] in (0, 1)
        assert path.read_bytes() not in (b"", b"former")
    assert {path.suffix for path in tmp_path.iterdir()} == {ending}


def test_a_full_or_read_only_disk_leaves_the_former_file(command, tmp_path):
    run, ending = command
    mount, disk = shutil.which("mount"), tmp_path / "disk"
    if sys.platform != "linux" or os.geteuid() or not mount:
        pytest.skip("only root of a Linux system mounts a file system")
    disk.mkdir()
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    try:
        path = disk / f"a{ending}"
        path.write_bytes(b"former")
        with (disk / "filling").open("wb", buffering=0) as file:
            file.write(bytes(8192))
        (disk / "filling").open("ab").write(b"1")
        is_one_line(run(path), "cannot be written", "No space left on device")
        assert {name.name for name in disk.iterdir()} == {path.name, "filling"}
        subprocess.run([mount, "-o", "remount,ro", str(disk)], check=True)
        is_one_line(run(path), "cannot be written", "Read-only file system")
        assert path.read_bytes() == b"former"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_split_is_not_replaced_by_findings(source, monkeypatch, capsys):
    (source / "data" / "split.csv").write_text("image_id,part\n")
    monkeypatch.setattr("sys.argv", ["maskseg", "check", str(source / "data"), "--table", f"{source}/data/split.csv"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    (source / "data" / "split.csv").unlink()
    is_one_line((end.value.code, capsys.readouterr().err), "is read by this command")
