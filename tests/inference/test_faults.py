"""docs/faults.md carried out on a small file system of its own."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from maskseg.core.errors import OutputError
from maskseg.core.files import sync_folder, sync_tree, write_whole
from maskseg.core.locks import alone_in
from maskseg.imaging.finding import find_images
from maskseg.inference.run import predict_files
from tests import kills
from tests.inference.grey_images import grey_images
from tests.inference.test_run import QUICK, Squares, contents


@pytest.fixture
def disk(tmp_path):
    """A file system of 2 MB."""
    folder = tmp_path / "disk"
    mounted(folder, "2m")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def mounted(folder, size):
    """Mount a file system of that size; a reason why not."""
    attach(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs")


def attach(folder, *words):
    folder.mkdir()
    mount = shutil.which("mount")
    if sys.platform != "linux" or os.geteuid() or not mount:
        pytest.skip("only root of a Linux system mounts a file system")
    done = subprocess.run([mount, *map(str, words), str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.decode().strip()}")


@pytest.fixture
def with_quota(tmp_path):
    """A file system on which a megabyte may be taken; its folder, and a function that lifts the limit."""
    if not shutil.which("mkfs.btrfs"):
        pytest.skip("no mkfs.btrfs, whose quotas bind root, too")
    disk, folder = tmp_path / "disk.img", tmp_path / "disk"
    disk.write_bytes(b"")
    os.truncate(disk, 128 << 20)
    subprocess.run(["mkfs.btrfs", "-q", disk], check=True, capture_output=True)
    attach(folder, "-o", "loop", disk)
    try:
        subprocess.run(["btrfs", "quota", "enable", folder], check=True)
        limit = ["btrfs", "qgroup", "limit"]
        subprocess.run([*limit, "1M", folder], check=True)
        yield folder, lambda: subprocess.run([*limit, "none", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def images(tmp_path):
    return grey_images(tmp_path / "images", 6)


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


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_the_next_one_goes_on(disk, images, tmp_path):
    with pytest.raises(OutputError, match="No space left on device") as caught:
        predict_files(Filling(disk), find_images([images]), disk / "out", QUICK)
    assert "\n" not in str(caught.value)
    (disk / "filling").unlink()
    goes_on(disk, images, tmp_path)


@pytest.mark.slow
def test_over_quota_the_run_ends_in_one_line_and_the_next_one_goes_on(with_quota, images, tmp_path):
    disk, lift = with_quota
    with pytest.raises(OutputError, match="Disk quota exceeded") as caught:
        predict_files(Filling(disk), find_images([images]), disk / "out", QUICK)
    assert "\n" not in str(caught.value)
    lift()
    goes_on(disk, images, tmp_path)


def goes_on(disk, images, tmp_path):
    """What is done is not done again, and the results are those of an unbroken run."""
    predictor = Squares()
    assert predict_files(predictor, find_images([images]), disk / "out", QUICK) == []
    assert predictor.calls < 6
    predict_files(Squares(), find_images([images]), tmp_path / "unbroken", QUICK)
    assert contents(disk / "out") == contents(tmp_path / "unbroken")


@pytest.mark.slow
def test_on_a_disk_that_can_hold_no_more_files_the_run_ends_in_one_line_and_the_next_one_goes_on(
    disk, images, tmp_path
):
    class ManyFiles(Squares):
        def segment(self, image, tta):
            if self.calls == 3:
                no_more_files(disk)
            return super().segment(image, tta)

    with pytest.raises(OutputError, match="No space left on device") as caught:
        predict_files(ManyFiles(), find_images([images]), disk / "out", QUICK)
    assert "\n" not in str(caught.value)
    subprocess.run(["mount", "-o", "remount,nr_inodes=10000", str(disk)], check=True)
    goes_on(disk, images, tmp_path)


def no_more_files(disk):
    """Set the most files to those that there are; the system refuses fewer, and others may be made meanwhile."""
    for _ in range(100):
        found = os.statvfs(disk)
        limit = f"remount,nr_inodes={found.f_files - found.f_ffree}"
        if subprocess.run(["mount", "-o", limit, str(disk)], capture_output=True).returncode == 0:
            return
    pytest.fail("the number of files could not be limited")


# As network disks say it: the folder was changed by another machine, or lies on another disk by now.
@pytest.mark.slow
@pytest.mark.parametrize("code", [errno.ESTALE, errno.EXDEV, errno.EIO, errno.EACCES, errno.ENOENT])
@pytest.mark.parametrize("place", [0, 4, 9])
def test_a_rename_that_fails_ends_the_run_in_one_line_and_leaves_nothing(images, tmp_path, monkeypatch, code, place):
    real, out, calls = os.replace, tmp_path / "out", []

    def replace(source, target, **options):
        calls.append(target)
        if len(calls) == place + 1:
            raise OSError(code, os.strerror(code), str(source), None, str(target))
        real(source, target, **options)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match=os.strerror(code)) as caught:
        predict_files(Squares(), find_images([images]), out, QUICK)
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    assert predict_files(Squares(), find_images([images]), out, QUICK) == []
    predict_files(Squares(), find_images([images]), tmp_path / "unbroken", QUICK)
    assert kills.contents(out) == kills.contents(tmp_path / "unbroken")


@pytest.mark.slow
@pytest.mark.parametrize("when", [1, 4_102_444_800])
def test_whatever_the_clock_says_the_next_run_goes_on(images, tmp_path, monkeypatch, when):
    """It was set back after a run, or forward: all files are of another time than it is."""

    class Broken(Squares):
        def segment(self, image, tta):
            if self.calls == 3:
                raise KeyboardInterrupt
            return super().segment(image, tta)

    for path in images.iterdir():
        os.utime(path, (when, when))
    with pytest.raises(KeyboardInterrupt):
        predict_files(Broken(), find_images([images]), tmp_path / "out", QUICK)
    for path in (tmp_path / "out").rglob("*"):
        os.utime(path, (when, when))
    # One is another image by now, which was made before all others.
    replaced = sorted(images.iterdir())[0]
    shutil.copy(sorted(images.iterdir())[-1], replaced)
    os.utime(replaced, (when - 1, when - 1))
    monkeypatch.setattr("time.time", lambda: 86_400.0)
    predictor = Squares()
    assert predict_files(predictor, find_images([images]), tmp_path / "out", QUICK) == []
    assert predictor.calls == 4
    predict_files(Squares(), find_images([images]), tmp_path / "unbroken", QUICK)
    assert kills.contents(tmp_path / "out") == kills.contents(tmp_path / "unbroken")


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


def fill(disk, left):
    """Leave so many bytes of a disk free."""
    with (disk / "filling").open("wb", buffering=0) as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(bytes(max(0, free - left)))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    kills.write_source(folder)
    return folder


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A function that gives what an undisturbed job leaves, and imports all that it needs for those after it."""
    folder, done = tmp_path_factory.mktemp("whole"), {}

    def give(name):
        if name not in done:
            kills.import_all(kills.JOBS[name], source, folder / name)
            done[name] = kills.contents(folder / name)
        return done[name]

    return give


def ended(job, source, out, said):
    """Exit status of a job in a process of its own, and what it said."""
    said.write_text("")
    _, status = os.waitpid(kills.begun(job, source, out, said), 0)
    return os.waitstatus_to_exitcode(status), said.read_text()


# Bytes that are left where the disk is full: for no folder, for some images, for nearly all.
@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 20_000, 45_000])
@pytest.mark.parametrize("name", ["convert", "check", "pack", "serve"])
def test_on_a_full_disk_each_command_ends_in_one_line_and_the_next_one_is_as_if_nothing_had_been(
    disk, source, whole, tmp_path, name, left
):
    expected, job = whole(name), kills.JOBS[name]
    fill(disk, left)
    status, said = ended(job, source, disk / "out", tmp_path / "said")
    lines = [line for line in said.splitlines() if "No space left on device" in line]
    # 0: what was to be written found its place.
    assert status == 0 or "InputError" in said or "OutputError" in said or len(lines) == 1, said
    if left == 0:
        assert lines
    assert "Traceback" not in said or name == "serve", said
    assert not (disk / "out" / "annotations.json").exists() or not lines
    (disk / "filling").unlink()
    assert ended(job, source, disk / "out", tmp_path / "said")[0] == 0
    assert kills.contents(disk / "out") == expected


@pytest.mark.slow
def test_a_training_on_a_full_disk_ends_in_one_line_and_goes_on_where_there_is_room(disk, source, whole, tmp_path):
    """Its config and its log have found their place, its checkpoint has not."""
    expected = whole("train")
    status, said = ended(kills.train, source, disk / "out", tmp_path / "said")
    assert status == 0, said  # `kills.command` takes exit status 2 for an end that was said
    assert said.count("No space left on device") == said.count("maskseg: error:") == 1
    assert "Traceback" not in said
    assert "Logging error" not in said
    subprocess.run(["mount", "-o", "remount,size=1g", str(disk)], check=True)
    assert ended(kills.train, source, disk / "out", tmp_path / "said")[0] == 0
    assert kills.contents(disk / "out") == expected


@pytest.mark.slow
def test_a_training_into_what_is_a_file_or_another_run_s_folder_is_one_line(source, whole, tmp_path):
    assert whole("train")
    (tmp_path / "file").write_text("mine")
    with alone_in(tmp_path / "busy"):
        for name, reason in (
            ("file", "cannot be written"),
            ("file/below", "cannot be written"),
            ("busy", "another run"),
        ):
            status, said = ended(kills.train, source, tmp_path / name, tmp_path / "said")
            assert status == 0, said
            assert said.count(reason) == said.count("maskseg: error:") == 1
            assert "Traceback" not in said
    assert (tmp_path / "file").read_text() == "mine"
    assert list((tmp_path / "busy").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convert", "check", "pack", "train"])
def test_on_a_read_only_disk_each_command_ends_in_one_line(disk, source, whole, tmp_path, name):
    assert whole(name)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    status, said = ended(kills.JOBS[name], source, disk / "out", tmp_path / "said")
    assert status == 0, said  # `kills.command` takes exit status 2 for an end that was said
    assert len([line for line in said.splitlines() if "Read-only file system" in line]) == 1
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convert", "pack"])
def test_two_at_once_in_one_folder_the_second_says_so(disk, source, tmp_path, name):
    with alone_in(disk / "out"):
        status, said = ended(kills.JOBS[name], source, disk / "out", tmp_path / "said")
    assert status == 0, said
    assert said.count("another run is writing into this folder") == 1
    assert not [path for path in (disk / "out").rglob("*") if path.is_file()]
