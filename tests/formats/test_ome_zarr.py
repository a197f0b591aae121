"""Label images as OME-Zarr come back whole, in every size."""

import sys

import numpy as np
import pytest

from maskseg.core.errors import InputError
from maskseg.core.files import remove_leftovers
from maskseg.formats import ome_zarr as zarr_labels
from maskseg.formats.ome_zarr import write_zarr_labels
from maskseg.imaging.reading import ImageFile
from maskseg.imaging.slides import open_source

zarr = pytest.importorskip("zarr", reason="zarr, the extra `slides`, is not installed")


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1), (300, 2048), (2049, 70), (700, 4100)])
def test_the_full_size_is_the_label_image_and_each_further_one_every_second_pixel(shape, tmp_path):
    labels = np.random.default_rng(0).integers(0, 70_000, shape, np.int32)
    write_zarr_labels(tmp_path / "a.zarr", labels)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    (image,) = group.attrs["multiscales"]
    longest = []
    for level, item in enumerate(image["datasets"]):
        np.testing.assert_array_equal(group[item["path"]][:], labels[:: 2**level, :: 2**level])
        assert item["coordinateTransformations"] == [{"type": "scale", "scale": [2.0**level] * 2}]
        longest.append(max(group[item["path"]].shape))
    assert [length for length in longest if length <= 2048] == longest[-1:], "the last is the first that is small"
    assert "image-label" in group.attrs


def test_it_is_an_ome_zarr_that_maskseg_itself_reads(tmp_path):
    labels = np.zeros((600, 3000), np.uint16)
    labels[100:200, 50:900] = 60_000
    with zarr_labels.zarr_labels(tmp_path / "a.zarr", labels.shape, labels.dtype, 0.25) as write:
        for top in range(0, 600, 256):
            write(labels[top : top + 256])
    for level in (0, 1):
        source, scale, _ = open_source(ImageFile("a", tmp_path / "a.zarr"), level)
        assert scale == 2**level
        height, width = source.shape
        read = source.values((0, 0, width, height))[..., 0]
        np.testing.assert_array_equal(read, labels[:: 2**level, :: 2**level])
    assert source._levels.mpp == 0.25


def test_a_former_one_stays_until_the_new_one_is_whole(tmp_path):
    former, labels = np.full((300, 20), 1, np.uint16), np.full((300, 20), 2, np.uint16)
    write_zarr_labels(tmp_path / "a.zarr", former)
    with pytest.raises(KeyboardInterrupt), zarr_labels.zarr_labels(tmp_path / "a.zarr", (300, 20), np.uint16) as write:
        write(labels[:256])
        raise KeyboardInterrupt
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]
    assert (zarr.open_group(tmp_path / "a.zarr", mode="r")["0"][:] == 1).all()
    write_zarr_labels(tmp_path / "a.zarr", labels)
    assert (zarr.open_group(tmp_path / "a.zarr", mode="r")["0"][:] == 2).all()


def test_what_a_killed_process_leaves_is_removed(tmp_path):
    (tmp_path / ".a.zarr.maskseg-x8y9_a01" / "0").mkdir(parents=True)
    (tmp_path / "a.zarr").mkdir()
    remove_leftovers(tmp_path, {"a.zarr"})
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


def test_without_zarr_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(InputError, match=r"pip install 'maskseg\[slides\]'"):
        write_zarr_labels(tmp_path / "a.zarr", np.zeros((3, 3), np.uint16))


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"a\.zarr: cannot be written"):
        write_zarr_labels(tmp_path / "file" / "a.zarr", np.zeros((3, 3), np.uint16))
