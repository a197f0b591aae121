"""Faithful files of published sets, whose labels are arrays and label images, and the masks that they stand for."""

import cv2
import numpy as np
import pytest
import tifffile
from scipy import io as matlab

from maskseg.convert.annotated import convert_annotations
from maskseg.core.errors import InputError
from maskseg.formats import mat, stacks
from maskseg.formats.cellpose import CellposeWriter
from maskseg.formats.registry import recognise
from maskseg.formats.writer import ImageInfo

from .annotated import LABELS, masks_of, pixels, read_all
from .test_tool_readers import image, only

KINDS = {1: 2, 2: 1, 3: 2, 7: 4}


@pytest.mark.parametrize("kind", ["type_map", "inst_type", "class", "pairs"])
def test_matlab(tmp_path, kind):
    saved = {"inst_map": LABELS.astype(float), "other": np.array([{"a": 1}], dtype=object)}
    if kind == "type_map":
        saved["type_map"] = np.vectorize(lambda value: KINDS.get(value, 0))(LABELS).astype(float)
    elif kind == "pairs":  # as HoVer-Net saves what it predicts
        saved["inst_type"] = np.array(list(KINDS.items()))[::-1]
    else:
        saved[kind] = np.array([[KINDS[key]] for key in KINDS], float)
        if kind == "class":
            saved["id"] = np.array([[key] for key in KINDS], np.int32)
    (tmp_path / "Labels").mkdir()
    matlab.savemat(tmp_path / "Labels" / "a.mat", saved, do_compression=True)
    if kind == "inst_type":  # in the order of the nuclei
        saved["inst_map"] = np.searchsorted([0, 1, 2, 3, 7], LABELS).astype(float)
        matlab.savemat(tmp_path / "Labels" / "a.mat", saved)
    image_id, found = only("mat", tmp_path / "Labels", LABELS.shape)
    assert image_id == "a"
    assert pixels(found.masks) == pixels(masks_of())
    assert found.classes == ["2", "1", "2", "4"]


def test_overlays_of_the_same_names_are_no_images(tmp_path):
    """CoNSeP's folders."""
    for part in ("Images", "Overlay"):
        image(tmp_path / "set" / part / "a.png", LABELS.shape, 90 if part == "Images" else 10)
    (tmp_path / "set" / "Labels").mkdir()
    matlab.savemat(tmp_path / "set" / "Labels" / "a.mat", {"inst_map": LABELS})
    convert_annotations(tmp_path / "set", tmp_path / "out", "mat", progress=False)
    assert cv2.imread(str(tmp_path / "out" / "images" / "a.png")).max() == 90


def test_matlab_files_that_are_none_are_one_line(tmp_path):
    for name, saved in (
        ("cells", np.array([[1], ["a"]], dtype=object)),
        ("text", "abc"),
        ("half", np.full((3, 3), 0.5)),
    ):
        matlab.savemat(tmp_path / f"{name}.mat", {"inst_map": saved})
    matlab.savemat(tmp_path / "none.mat", {"x": np.ones((2, 2))})
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512, b" "))
    (tmp_path / "cut.mat").write_bytes((tmp_path / "none.mat").read_bytes()[:140])
    for item in mat.read(tmp_path):
        with pytest.raises(InputError, match=rf"{item.image_id}\.mat") as error:
            item.read(None)
        assert len(str(error.value).splitlines()) == 1


def test_pannuke(tmp_path):
    masks = np.zeros((2, *LABELS.shape, 6))
    masks[0, ..., 0], masks[0, ..., 4] = LABELS * (LABELS == 1), LABELS * (LABELS == 7)
    images = np.random.default_rng(0).integers(0, 255, (2, *LABELS.shape, 3)).astype(float)
    for part, values in (("images", images), ("masks", masks)):
        (tmp_path / part / "fold1").mkdir(parents=True)
        np.save(tmp_path / part / "fold1" / f"{part}.npy", values)
    np.save(tmp_path / "images" / "fold1" / "types.npy", np.array(["Breast", "Colon"]))
    assert recognise(tmp_path).name == "stacks"
    first, second = stacks.read(tmp_path)
    np.testing.assert_array_equal(first.image.read(), images[0])
    assert first.read().classes == ["Neoplastic", "Epithelial"]
    assert pixels(first.read().masks) == pixels(masks_of(LABELS * ((LABELS == 1) | (LABELS == 7))))
    assert len(second.read().masks) == 0


def test_conic_and_tissuenet(tmp_path):
    kinds = np.vectorize(lambda value: KINDS.get(value, 0))(LABELS)
    (tmp_path / "conic").mkdir()
    np.save(tmp_path / "conic" / "images.npy", np.full((1, *LABELS.shape, 3), 90, np.uint8))
    np.save(tmp_path / "conic" / "labels.npy", np.stack([LABELS, kinds], axis=-1)[None].astype(np.int32))
    ((_, found),) = read_all("stacks", tmp_path / "conic")[0].items()
    assert pixels(found.masks) == pixels(masks_of())
    assert found.classes == ["Epithelial", "Neutrophil", "Epithelial", "Plasma"]
    nuclei = np.stack([(LABELS > 0) * 9, LABELS], axis=-1)[None]
    pictures = np.random.default_rng(0).random((1, *LABELS.shape, 2)).astype(np.float32)
    np.savez_compressed(tmp_path / "net.npz", X=pictures, y=nuclei, meta=np.array([{"a": 1}], dtype=object))
    assert recognise(tmp_path / "net.npz").name == "stacks"
    ((_, found),) = read_all("stacks", tmp_path / "net.npz")[0].items()
    assert pixels(found.masks) == pixels(masks_of())


def test_nuinsseg(tmp_path):
    source = tmp_path / "set"
    image(source / "human liver" / "tissue images" / "human_liver_01.png", LABELS.shape)
    for name, values in (("label masks", LABELS > 0), ("label masks modify", LABELS), ("mask binary", LABELS > 0)):
        (source / "human liver" / name).mkdir()
        tifffile.imwrite(source / "human liver" / name / "human_liver_01.tif", values.astype(np.uint16))
    image_id, found = only("nuinsseg", source, LABELS.shape)
    assert image_id == "human_liver_01"
    assert pixels(found.masks) == pixels(masks_of())


def test_ctc(tmp_path):
    source = tmp_path / "set"
    for folder, name, values in (
        ("01", "t005", np.full(LABELS.shape, 7)),
        ("01", "t006", np.full(LABELS.shape, 7)),
        ("01_GT/SEG", "man_seg005", LABELS),
        ("01_GT/TRA", "man_track005", LABELS > 0),
        ("01_ST/SEG", "man_seg005", LABELS > 0),
        ("01_GT/SEG", "man_seg_006_003", LABELS),
    ):
        (source / folder).mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(source / folder / f"{name}.tif", values.astype(np.uint16))
    image_id, found = only("ctc", source, LABELS.shape)
    assert image_id == "01_t005"
    assert pixels(found.masks) == pixels(masks_of())


def test_cellpose_opens_what_is_written(tmp_path):
    CellposeWriter(ImageInfo("a", LABELS.shape, "a.png"), tmp_path / "a_seg.npy").write(masks_of())
    saved = np.load(tmp_path / "a_seg.npy", allow_pickle=True).item()
    assert {"masks", "outlines", "colors", "filename", "flows", "chan_choose", "ismanual", "est_diam"} <= saved.keys()
    np.testing.assert_array_equal(saved["masks"], np.searchsorted([0, 1, 2, 3, 7], LABELS))
    assert set(np.unique(saved["outlines"])) == {0, 1, 2, 3, 4}
    assert len(saved["colors"]) == len(saved["ismanual"]) == 4
