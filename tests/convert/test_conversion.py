import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maskseg.convert.conversion import PendingImage, Summary, convert_images
from maskseg.core.errors import InputError
from tests.fixtures.converting import convert_folders as convert

IMAGES = 40


@pytest.fixture
def source(make_folder):
    """Forty image folders, of which some have faults."""
    for number in range(IMAGES):
        folder = make_folder(f"i{number:02d}", nuclei=number % 4)
        if number % 9 == 5:
            next((folder / "images").iterdir()).write_bytes(b"")
        if number % 7 == 3:
            (folder / "masks" / "zz.png").write_bytes(b"")
    return folder.parent


def content(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_files_and_the_faults_are_the_same_whatever_the_number_of_processes(source, tmp_path):
    summaries = [convert(source, tmp_path / str(n), workers=n, progress=False) for n in (1, 2, 3)]
    assert summaries[0] == summaries[1] == summaries[2]
    assert len(summaries[0].left_out) == 10
    assert content(tmp_path / "1") == content(tmp_path / "2") == content(tmp_path / "3")
    assert len(content(tmp_path / "1")) == summaries[0].images + 1 == 36


# Other processes import what they run.
READERS = """
import os, signal, time
from maskseg.convert.conversion import ConvertedImage, Converted

def picture(name):
    return Converted([ConvertedImage(f"{name}.png", b"x", (4, 5), [])], 0)

def slow(number):
    time.sleep(0.2)
    return picture(number)

def named_after_its_process(number):
    time.sleep(0.01)
    return picture(f"{number}_{os.getpid()}")

def dying(number):
    if number == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return picture(number)
"""


@pytest.fixture
def readers(tmp_path, monkeypatch):
    (tmp_path / "readers_of_a_test.py").write_text(READERS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("readers_of_a_test")
    del sys.modules["readers_of_a_test"]


def numbers(count):
    return [PendingImage(str(number), number, str(number)) for number in range(count)]


@pytest.mark.slow
def test_the_work_is_done_by_as_many_processes_as_were_asked_for(readers, tmp_path):
    convert_images(
        numbers(IMAGES),
        readers.named_after_its_process,
        tmp_path / "out",
        Summary("x"),
        expected="x",
        workers=2,
        progress=False,
    )
    assert len({name.partition("_")[2] for name in content(tmp_path / "out") if "_" in name}) == 2


@pytest.mark.slow
def test_a_killed_process_is_one_line_and_leaves_the_former_data_set(readers, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotations.json").write_text("former")
    with pytest.raises(InputError, match=r"killed.*--workers") as error:
        convert_images(numbers(IMAGES), readers.dying, out, Summary("x"), expected="x", workers=2, progress=False)
    assert "\n" not in str(error.value)
    assert (out / "annotations.json").read_text() == "former"
    assert [path.name for path in out.iterdir() if path.is_file()] == ["annotations.json"]


SCRIPT = """
import sys
from pathlib import Path
from maskseg.convert.conversion import Summary, PendingImage, convert_images
from readers_of_a_test import slow

if __name__ == "__main__":
    tasks = [PendingImage(str(number), number, str(number)) for number in range(400)]
    convert_images(tasks, slow, Path(sys.argv[1]), Summary("x"), expected="x", workers=2)
"""


def alive(group):
    """Processes of a group that have not ended."""
    listed = subprocess.run(["ps", "-o", "pgid=,stat=", "-A"], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [row for row in rows if row[0] == str(group) and not row[1].startswith("Z")]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals to a group of processes")
@pytest.mark.parametrize(
    ("number", "to_all"), [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)]
)
def test_an_interrupted_run_leaves_no_process_no_half_file_and_the_former_data_set(number, to_all, readers, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    out = tmp_path / "out"
    out.mkdir()
    (out / "annotations.json").write_text("former")
    child = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(out.glob("images/*.png")):
            assert child.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # Ctrl-C reaches every process of the terminal.
        (os.killpg if to_all else os.kill)(child.pid, number)
        _, err = child.communicate(timeout=60)
        while alive(child.pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not alive(child.pid)
    finally:
        if alive(child.pid):
            os.killpg(child.pid, signal.SIGKILL)
    assert child.returncode != 0
    assert (out / "annotations.json").read_text() == "former"
    if to_all:  # the main process says so, the others nothing
        assert err.count("Traceback") == 1
        assert err.rstrip().endswith("KeyboardInterrupt")
        assert not [name for name in content(out) if Path(name).name.startswith(".")]


def test_no_task_is_one_line_and_writes_nothing(readers, tmp_path):
    with pytest.raises(InputError, match="no image to convert; expected a b in c"):
        convert_images([], readers.slow, tmp_path / "out", Summary("x"), expected="a b in c")
    assert not (tmp_path / "out").exists()
