import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.formats.labels import read_labels, write_labels


@pytest.mark.slow
@given(
    hnp.arrays(
        np.int64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.integers(0, 9) | st.integers(0, 70_000) | st.just(2**31 - 1),
    )
)
def test_labels_come_back(tmp_path_factory, labels):
    path = tmp_path_factory.mktemp("labels") / "x.tif"
    write_labels(path, labels)
    back = read_labels(path)
    assert (back == labels).all()
    assert back.shape == labels.shape
    assert back.dtype == (np.uint16 if labels.max() < 65_536 else np.int32)


def test_the_file_is_compressed(tmp_path):
    write_labels(tmp_path / "x.tif", np.ones((500, 600), np.int32))
    assert (tmp_path / "x.tif").stat().st_size < 500 * 600 * 2 / 50


@pytest.mark.parametrize("labels", [np.array([[-1, 0]]), np.array([[2**31, 0]])])
def test_labels_that_no_file_holds_are_refused_and_nothing_is_left(tmp_path, labels):
    with pytest.raises(InputError, match="renumber"):
        write_labels(tmp_path / "x.tif", labels)
    assert list(tmp_path.iterdir()) == []


def test_other_programs_files_are_read_as_their_numbers(tmp_path):
    labels = np.arange(12).reshape(3, 4) * 20
    Image.fromarray(labels.astype(np.uint8)).save(tmp_path / "grey.png")
    Image.fromarray((labels * 100).astype(np.uint16)).save(tmp_path / "deep.png")
    palette = Image.fromarray(labels.astype(np.uint8), mode=None).convert("P")
    palette.putdata(labels.ravel().tolist())
    palette.putpalette([255 - i // 3 for i in range(768)])
    palette.save(tmp_path / "palette.png")
    np.save(tmp_path / "array.npy", labels.astype(np.uint32))
    tifffile.imwrite(tmp_path / "plain.tif", labels.astype(np.uint32)[None], photometric="minisblack")
    tifffile.imwrite(tmp_path / "lzw.tiff", labels.astype(np.uint16), compression="lzw", predictor=True)
    tifffile.imwrite(tmp_path / "float.tif", labels.astype(np.float32))
    for name in ("grey.png", "palette.png", "array.npy", "plain.tif", "lzw.tiff", "float.tif"):
        assert (read_labels(tmp_path / name) == labels).all(), name
    assert (read_labels(tmp_path / "deep.png") == labels * 100).all()


def test_what_is_no_label_image_is_named(tmp_path):
    np.save(tmp_path / "fraction.npy", np.full((3, 4), 0.5))
    np.save(tmp_path / "infinite.npy", np.full((3, 4), np.inf))
    np.save(tmp_path / "object.npy", np.array([[{}]]), allow_pickle=True)
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "colour.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((5, 30, 40), np.uint16))
    write_labels(tmp_path / "whole.tif", np.arange(10_000).reshape(100, 100))
    (tmp_path / "cut.tif").write_bytes((tmp_path / "whole.tif").read_bytes()[:3000])
    (tmp_path / "head.tif").write_bytes(b"II*\0cut")
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.tif").write_bytes(b"")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 90), np.uint8)).save(tmp_path / "noise.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "noise.png").read_bytes()[:4000])
    for name, says in [
        ("fraction.npy", "float64"),
        ("infinite.npy", "float64"),
        ("object.npy", "not a readable"),
        ("colour.png", "one channel"),
        ("stack.tif", "shape"),
        ("cut.tif", "not a readable"),
        ("head.tif", "not a readable"),
        ("text.png", "not a readable"),
        ("empty.tif", "not a readable"),
        ("half.png", "not a readable"),
        ("missing.tif", "does not exist"),
        ("labels.jpg", "is one of"),
    ]:
        with pytest.raises(InputError, match=says) as error:
            read_labels(tmp_path / name)
        assert str(tmp_path / name) in str(error.value)
        assert "\n" not in str(error.value)
