"""Images kept in the file that workers share."""

import errno
import logging
import os
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from maskseg.training.cache import ImageCache, kept_file

SHAPES = [(5, 7), (6, 4), (3, 9), (8, 8)]
RECORDS = [{"height": h, "width": w, "number": number} for number, (h, w) in enumerate(SHAPES)]
ALL = sum(3 * h * w for h, w in SHAPES) + len(SHAPES)


def read(log: Path, record) -> np.ndarray:
    """A random picture; the read is noted in a file, so that it counts whichever process it is in."""
    with log.open("a") as file:
        file.write(f"{record['number']}\n")
    return np.random.default_rng(record["number"]).integers(0, 256, (record["height"], record["width"], 3), np.uint8)


def reads(log: Path) -> list[int]:
    return sorted(map(int, log.read_text().split()))


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


def expected(number: int) -> np.ndarray:
    return read(Path(os.devnull), RECORDS[number])


class Images(Dataset):
    def __init__(self, cache):
        self.cache = cache

    def __len__(self):
        return len(RECORDS)

    def __getitem__(self, index):
        return np.array(self.cache[index])


def test_an_image_is_read_once_and_stays_as_it_was(log):
    cache = ImageCache(RECORDS, ALL, partial(read, log))
    for _ in range(3):
        for number in (2, 0, 3, 1):
            assert np.array_equal(cache[number], expected(number))
    assert reads(log) == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="read-only"):
        cache[0][0] = 1


@pytest.mark.parametrize(("budget", "again"), [(ALL, []), (ALL - 1, [3]), (4 + 105 + 72, [2, 3]), (0, [0, 1, 2, 3])])
def test_what_is_beyond_the_budget_is_read_each_time(log, budget, again):
    cache = ImageCache(RECORDS, budget, partial(read, log))
    for _ in range(2):
        for number in range(4):
            assert np.array_equal(cache[number], expected(number))
    assert reads(log) == sorted([0, 1, 2, 3, *again])
    if cache.file is not None:
        assert os.fstat(cache.file.fileno()).st_size <= budget


@pytest.mark.slow
@pytest.mark.parametrize("start", ["fork", "spawn", "forkserver"])
def test_workers_share_it_however_they_are_started(log, start):
    images = Images(ImageCache(RECORDS, ALL, partial(read, log)))
    for _ in range(2):
        # One that is not forked takes seconds.
        workers = 2 if start == "fork" else 1
        loader = DataLoader(images, batch_size=None, num_workers=workers, multiprocessing_context=start)
        for number, image in enumerate(loader):
            assert np.array_equal(image, expected(number))
    # Each image once, in all workers and here.
    assert all(np.array_equal(images[number], expected(number)) for number in range(4))
    assert reads(log) == [0, 1, 2, 3]


def test_a_full_disk_ends_the_keeping_and_nothing_else(log, monkeypatch, caplog):
    write = os.pwrite

    def full(file, data, place):
        # The first image comes in bit by bit, then there is no room.
        if place >= cache.starts[1]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, bytes(data[:10]), place)

    cache = ImageCache(RECORDS, ALL, partial(read, log))
    monkeypatch.setattr(os, "pwrite", full)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert all(np.array_equal(cache[number], expected(number)) for number in range(4))
    assert "No space left" in caplog.text
    assert "TMPDIR" in caplog.text
    assert caplog.text.count("\n") == 1


def test_an_image_of_another_size_than_its_record_is_given_but_not_kept(log):
    records = [{**RECORDS[0], "height": 4}, RECORDS[1]]
    cache = ImageCache(records, ALL, lambda record: read(log, {**record, "height": record["height"] + 1}))
    assert cache[0].shape == (5, 7, 3)
    assert cache[0].shape == (5, 7, 3)
    assert reads(log) == [0, 0]


def test_nothing_is_left_in_the_folder_for_temporary_files(log, monkeypatch, tmp_path):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    cache = ImageCache(RECORDS, ALL, partial(read, log))
    cache[0]
    assert list(folder.iterdir()) == []


def test_in_a_folder_images_are_there_for_the_next_training(log, tmp_path):
    path = tmp_path / "kept" / "some.images"
    first = ImageCache(RECORDS, ALL, partial(read, log), path)
    assert np.array_equal(first[2], expected(2))
    # The next has the one that was read, reads the others, and with a smaller budget takes nothing away.
    for budget, again in ((ALL, [0, 1, 2, 3]), (4 + 105 + 72, [0, 1, 2, 2, 3, 3]), (ALL, [0, 1, 2, 2, 3, 3])):
        cache = ImageCache(RECORDS, budget, partial(read, log), path)
        assert all(np.array_equal(cache[number], expected(number)) for number in range(4))
        assert reads(log) == again
    assert list(path.parent.iterdir()) == [path]


def test_the_file_of_kept_images_follows_from_all_that_they_depend_on(tmp_path):
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for picture in pictures:
        picture.write_bytes(b"x")
    folder = str(tmp_path / "kept")
    first = kept_file(folder, RECORDS, pictures, "stretched")
    assert kept_file(folder, RECORDS, pictures, "stretched") == first
    others = {
        kept_file(folder, RECORDS, pictures, "as they are"),
        kept_file(folder, RECORDS[:3], pictures, "stretched"),
        kept_file(folder, RECORDS, pictures[:1], "stretched"),
    }
    os.utime(pictures[1], ns=(1, 1))
    others.add(kept_file(folder, RECORDS, pictures, "stretched"))
    assert len(others | {first}) == 5
    assert kept_file("", RECORDS, pictures, "stretched") is None
