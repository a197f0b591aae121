"""docs/faults.md carried out on a small file system of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskseg.core.errors import OutputError
from maskseg.core.files import sync_folder, sync_tree, write_whole
from maskseg.imaging.finding import find_images
from maskseg.inference.run import predict_files
from tests.inference.test_run import QUICK, Squares, contents


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() or not mount:
        pytest.skip("only root of a Linux system mounts a file system")
    done = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(6):
        cv2.imwrite(str(folder / f"image_{number}.png"), np.full((20, 30, 3), number * 3, np.uint8))
    return folder


class Filling(Squares):
    """Fills the disk when the fourth image is seen."""

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def segment(self, image, tta):
        if self.calls == 3:
            with (self.folder / "filling").open("wb", buffering=0) as file:
                try:
                    while file.write(bytes(4096)):
                        pass
                except OSError:
                    pass
        return super().segment(image, tta)


def test_a_full_disk_ends_the_run_in_one_line_and_the_next_one_goes_on(disk, images, tmp_path):
    with pytest.raises(OutputError, match="No space left on device") as caught:
        predict_files(Filling(disk), find_images([images]), disk / "out", QUICK)
    assert "\n" not in str(caught.value)
    (disk / "filling").unlink()
    predictor = Squares()
    assert predict_files(predictor, find_images([images]), disk / "out", QUICK) == []
    assert predictor.calls < 6
    predict_files(Squares(), find_images([images]), tmp_path / "unbroken", QUICK)
    assert contents(disk / "out") == contents(tmp_path / "unbroken")


def test_a_read_only_disk_is_one_line(disk, images):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(OutputError, match=r"Read-only file system"):
        predict_files(Squares(), find_images([images]), disk / "out", QUICK)


def test_a_folder_that_vanishes_ends_the_run_or_is_made_again(disk, images):
    class Vanishing(Squares):
        def segment(self, image, tta):
            if self.calls == 2:
                shutil.rmtree(disk / "out", ignore_errors=True)
            return super().segment(image, tta)

    try:
        predict_files(Vanishing(), find_images([images]), disk / "out", QUICK)
    except OutputError as error:
        assert "\n" not in str(error)
    assert predict_files(Squares(), find_images([images]), disk / "out", QUICK) == []
    assert len(list((disk / "out" / "labels").iterdir())) == len(list(images.iterdir()))


def test_an_image_that_vanishes_is_named(images, tmp_path):
    files = find_images([images])
    (images / "image_2.png").unlink()
    ((name, reason),) = predict_files(Squares(), files, tmp_path / "out", QUICK)
    assert name == "image_2"
    assert "No such file" in reason


def test_files_and_their_folder_are_synced_before_the_name_counts(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(handle):
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("the system does not say which file is synced")
    monkeypatch.setattr(os, "fsync", fsync)
    with write_whole(tmp_path / "a") as file:
        file.write(b"1")
    assert synced[-1] == str(tmp_path)
    assert Path(synced[0]).name.startswith(".a.")
    synced.clear()
    with write_whole(tmp_path / "b" / "c", sync=False) as file:
        file.write(b"1")
    assert synced == []
    sync_tree(tmp_path / "b")
    assert synced == [str(tmp_path / "b" / "c"), str(tmp_path / "b")]
    sync_folder(tmp_path / "missing")
