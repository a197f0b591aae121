from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from pycocotools import mask as coco_mask

from maskseg.core.errors import InputError
from maskseg.data.dataset import image_id, load_coco
from maskseg.formats.registry import recognise
from maskseg.imaging.channels import Choice
from maskseg.imaging.reading import ImageFile
from tests.fixtures.converting import convert_labels as convert

from .annotated import masks_of, write, zipped

SHAPE = (40, 50)
# Not in a row, one label in two pieces, one with a hole.
LABELS = np.zeros(SHAPE, np.int64)
LABELS[2:8, 3:9] = 3
LABELS[20:24, 30:33] = 3
LABELS[10:18, 12:20] = 200
LABELS[13:15, 15:17] = 0
LABELS[39, 49] = 7


def put_image(path, shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((*shape, 3), 90, np.uint8))


def put_labels(path, labels):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".png":
        cv2.imwrite(str(path), labels)
    else:
        tifffile.imwrite(path, labels)


def put_pair(source, name="a", labels=LABELS, dtype=np.uint16, suffix=".tif"):
    put_image(source / "images" / f"{name}.png")
    put_labels(source / "masks" / f"{name}{suffix}", labels.astype(dtype))


def nuclei(out):
    """Image id -> masks as a set of packed bits, decoded by pycocotools."""
    data = load_coco(out)
    return {
        image_id(image): {
            np.packbits(coco_mask.decode(item["segmentation"])).tobytes()
            for item in data.annotations.get(image["id"], [])
        }
        for image in data.images
    }


def expected(labels=LABELS):
    return {np.packbits(labels == value).tobytes() for value in np.unique(labels) if value}


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [
        (".tif", np.uint8),
        (".tif", np.uint16),
        (".tif", np.uint32),
        (".tiff", np.int32),
        (".tif", np.float32),
        (".png", np.uint8),
        (".png", np.uint16),
        (".npy", np.uint16),
        (".npy", np.int64),
        (".npy", np.float64),
    ],
)
def test_every_label_is_one_nucleus_pixel_by_pixel(suffix, dtype, tmp_path):
    put_pair(tmp_path / "source", dtype=dtype, suffix=suffix)
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert (summary.images, summary.masks, summary.annotation_count, summary.left_out) == (1, 3, 3, [])
    assert nuclei(tmp_path / "out") == {"a": expected()}
    copied = tmp_path / "out" / "images" / "a.png"
    assert copied.read_bytes() == (tmp_path / "source" / "images" / "a.png").read_bytes()


@pytest.mark.slow
def test_seventy_thousand_labels(tmp_path):
    labels = np.arange(1, 70_001).reshape(250, 280)
    put_image(tmp_path / "source" / "images" / "a.png", labels.shape)
    put_labels(tmp_path / "source" / "masks" / "a.tif", labels.astype(np.int32))
    assert convert(tmp_path / "source", tmp_path / "out", progress=False).masks == 70_000
    data = load_coco(tmp_path / "out")
    masks = data.masks(data.images[0])
    assert (masks.to_labels() == labels).all()


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        ("train/images/a.png", "train/masks/a.tif"),
        ("images/a.png", "labels/a.png"),
        ("a.png", "a_masks.tif"),
        ("deep/a.png", "deep/a_cp_masks.png"),
        ("a.png", "a_seg.npy"),
        ("images/a.png", "images/a_masks.png"),
        ("a_img.png", "a_masks.png"),
        ("images/a.png", "masks/a_cp_masks.png"),
        ("images/a.png", "masks/a_mask.tif"),
        ("images/a.png", "labels/a-labels.tif"),
        ("a [x=0,y=0].png", "a [x=0,y=0]-labelled.png"),
        ("a.tif", "a_label.tif"),
    ],
)
def test_each_layout_is_found(image, labels, tmp_path):
    put_image(tmp_path / "source" / image)
    put_labels(tmp_path / "source" / labels, LABELS.astype(np.uint16))
    # What Cellpose and file managers write beside those.
    put_labels((tmp_path / "source" / image).with_name("a_flows.tif"), np.zeros((5, 5), np.uint8))
    (tmp_path / "source" / labels).with_name("._a.tif").write_bytes(b"x")
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert summary.left_out == []
    assert list(nuclei(tmp_path / "out").values()) == [expected()]


def test_photographs_beside_regions_are_no_label_images_and_labels_beside_them_are(tmp_path):
    """Label images come before the other files of a prediction: these have lost something."""
    write("imagej", tmp_path / "a", {"a_1": masks_of()})
    (tmp_path / "a" / "a_1.zip").rename(tmp_path / "a" / "RoiSet.zip")
    put_image(tmp_path / "a" / "photo.png")
    assert recognise(tmp_path / "a").name == "imagej"
    for form in ("imagej", "yolo"):
        write(form, tmp_path / "b", {"c": masks_of()})
    put_labels(tmp_path / "b" / "labels" / "d.tif", LABELS.astype(np.uint16))
    assert recognise(tmp_path / "b").name == "labels"


@pytest.mark.parametrize("name", ["a.csv", "project.csv", "a_cp_outlines.txt", "a.h5", "notes.md"])
def test_photographs_beside_files_of_no_known_kind_are_no_label_images(name, tmp_path):
    noise = np.random.default_rng(0).integers(60, 200, (*SHAPE, 3)).astype(np.uint8)
    put_labels(tmp_path / "a.png", noise)
    (tmp_path / name).write_text("index,shape-type,vertex-index,axis-0,axis-1\n0.0,polygon,0.0,3,4\n")
    with pytest.raises(InputError, match=f"nor another format that is read .*1 {Path(name).suffix}"):
        recognise(tmp_path)
    put_labels(tmp_path / "a.png", LABELS.astype(np.uint8))
    assert recognise(tmp_path).name == "labels"


def test_the_segmentation_masks_of_cvat_are_read(tmp_path):
    """In the folders of Pascal VOC: colours for objects, and for the classes of the same pixels."""
    whole = np.where(LABELS == 3, 0, LABELS)  # the others are of one piece each
    colours = np.random.default_rng(0).integers(40, 255, (256, 3)).astype(np.uint8)
    colours[0] = 0
    put_image(tmp_path / "set" / "JPEGImages" / "a.jpg")
    put_labels(tmp_path / "set" / "SegmentationObject" / "a.png", colours[whole])
    put_labels(
        tmp_path / "set" / "SegmentationClass" / "a.png", np.where(whole[..., None] > 0, np.uint8([9, 9, 200]), 0)
    )
    (tmp_path / "set" / "ImageSets").mkdir()
    (tmp_path / "set" / "labelmap.txt").write_text("# label:color_rgb:parts:actions\nbackground:0,0,0::\n")
    (tmp_path / "set" / "ImageSets" / "default.txt").write_text("a\n")
    for source in (tmp_path / "set", zipped(tmp_path / "set", tmp_path / "set.zip")):
        assert recognise(source).name == "labels"
        summary = convert(source, tmp_path / source.name.replace(".", "_out"), progress=False)
        assert (summary.left_out, summary.images) == ([], 1)
        assert nuclei(tmp_path / source.name.replace(".", "_out")) == {"a": expected(whole)}


def test_a_label_image_is_no_image_of_itself(tmp_path):
    put_labels(tmp_path / "source" / "a.tif", LABELS.astype(np.uint16))
    with pytest.raises(InputError, match="--images"):
        convert(tmp_path / "source", tmp_path / "out", progress=False)


def test_the_masks_of_a_cellpose_file_are_read(tmp_path):
    put_image(tmp_path / "source" / "a.png")
    seg = {"masks": LABELS.astype(np.uint16), "outlines": LABELS * 0, "flows": [np.ones(3), None]}
    # Versions 3 and 4: sizes as NumPy's numbers, what a person changed, and names of files as they were given.
    seg |= {"ismanual": np.zeros(3, bool), "diameter": np.float64(15), "est_diam": np.nan, "restore": None}
    seg |= {
        "manual_changes": [["1/2/2025", "added mask", [np.arange(3), np.arange(3)]]],
        "filename": tmp_path / "a.png",
    }
    np.save(tmp_path / "source" / "a_seg.npy", {**seg, "normalize_params": {"percentile": [1.0, 99.0]}})
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert summary.left_out == []
    assert nuclei(tmp_path / "out") == {"a": expected()}


def test_what_is_no_label_image_is_said_once(tmp_path):
    for name in "ab":
        put_pair(tmp_path / "source", name, (LABELS > 0) * 255)
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert (summary.masks, summary.left_out) == (8, [])
    assert list(summary.notes.values()) == [2]


def test_a_zip_file_is_read_like_the_folder(tmp_path):
    put_pair(tmp_path / "source")
    summary = convert(zipped(tmp_path / "source", tmp_path / "source.zip"), tmp_path / "out", progress=False)
    assert (summary.masks, summary.left_out) == (3, [])
    assert nuclei(tmp_path / "out") == {"a": expected()}


def test_an_image_without_nuclei_is_kept(tmp_path):
    put_pair(tmp_path / "source", labels=np.zeros(SHAPE))
    assert convert(tmp_path / "source", tmp_path / "out", progress=False).images == 1
    assert nuclei(tmp_path / "out") == {"a": set()}


def no_partner(source):
    (source / "masks" / "bad.tif").unlink()
    return "no label image"


def no_image(source):
    (source / "images" / "bad.png").unlink()
    return "no image"


def empty_labels(source):
    (source / "masks" / "bad.tif").write_bytes(b"")
    return "not a readable"


def empty_image(source):
    (source / "images" / "bad.png").write_bytes(b"")
    return "empty"


def cut_labels(source):
    path = source / "masks" / "bad.tif"
    path.write_bytes(path.read_bytes()[:-1000])
    return "not a readable"


def other_size(source):
    put_labels(source / "masks" / "bad.tif", LABELS[:-1].astype(np.uint16))
    return "39x50 pixels, the image 40x50"


def turned(source):
    put_labels(source / "masks" / "bad.tif", LABELS.T.astype(np.uint16))
    return "50x40 pixels, the image 40x50"


def negative(source):
    put_labels(source / "masks" / "bad.tif", LABELS.astype(np.int16) - 1)
    return "negative"


def fractions(source):
    put_labels(source / "masks" / "bad.tif", (LABELS / 2).astype(np.float32))
    return "float32"


def photograph(source):
    noise = np.random.default_rng(0).integers(0, 99, (*SHAPE, 3)).astype(np.uint8)
    put_labels(source / "masks" / "bad.tif", noise)
    return "photograph"


def lossy(source):
    (source / "masks" / "bad.tif").unlink()
    cv2.imwrite(str(source / "masks" / "bad.jpg"), LABELS.astype(np.uint8))
    return "JPEG"


def two(source):
    put_labels(source / "masks" / "bad.png", LABELS.astype(np.uint16))
    return "several label images"


def objects(source):
    (source / "masks" / "bad.tif").unlink()
    (source / "images" / "bad.png").rename(source / "bad.png")
    np.save(source / "bad_seg.npy", {"masks": LABELS, "filename": len}, allow_pickle=True)
    return "save the masks as TIFF or PNG"


@pytest.mark.parametrize(
    "spoil",
    [
        no_partner,
        no_image,
        empty_labels,
        empty_image,
        cut_labels,
        other_size,
        turned,
        negative,
        fractions,
        photograph,
        lossy,
        two,
        objects,
    ],
)
def test_a_bad_pair_is_one_line_and_costs_only_itself(spoil, tmp_path):
    source = tmp_path / "source"
    put_pair(source, "good")
    put_pair(source, "bad")
    says = spoil(source)
    summary = convert(source, tmp_path / "out", progress=False)
    (fault,) = summary.left_out
    assert says in fault.reason
    assert "bad" in fault.file
    assert "\n" not in fault.reason
    assert nuclei(tmp_path / "out") == {"good": expected()}


def test_a_cellpose_file_of_objects_is_not_needed_where_the_masks_lie_beside_it(tmp_path):
    put_image(tmp_path / "source" / "a.tif")
    put_labels(tmp_path / "source" / "a_cp_masks.png", LABELS.astype(np.uint8))
    np.save(tmp_path / "source" / "a_seg.npy", {"masks": LABELS}, allow_pickle=True)
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert (summary.masks, summary.left_out) == (3, [])


def test_images_of_one_name_keep_the_first(tmp_path):
    put_pair(tmp_path / "source" / "one")
    put_pair(tmp_path / "source" / "two", labels=np.ones(SHAPE))
    summary = convert(tmp_path / "source", tmp_path / "out", progress=False)
    (fault,) = summary.left_out
    assert str(tmp_path / "source" / "one" / "images" / "a.png") in fault.reason
    assert nuclei(tmp_path / "out") == {"a": expected()}


@pytest.mark.parametrize("kind", ["missing", "empty", "mask folders"])
def test_nothing_to_convert_is_one_line(kind, tmp_path):
    if kind != "missing":
        (tmp_path / "source").mkdir()
    if kind == "mask folders":
        put_image(tmp_path / "source" / "a" / "images" / "a.png")
        put_labels(tmp_path / "source" / "a" / "masks" / "0.png", LABELS.astype(np.uint8))
    with pytest.raises(InputError, match="source") as error:
        convert(tmp_path / "source", tmp_path / "out", progress=False)
    assert "\n" not in str(error.value)


def test_the_channel_and_the_plane_that_are_chosen_are_written(tmp_path):
    stack = np.random.default_rng(0).integers(0, 4000, (3, 2, *SHAPE)).astype(np.uint16)
    (tmp_path / "set" / "images").mkdir(parents=True)
    named = {"axes": "ZCYX", "Channel": {"Name": ["GFP", "DAPI"]}}
    path = tmp_path / "set" / "images" / "a.ome.tif"
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=named)
    put_labels(tmp_path / "set" / "masks" / "a.ome.tif", LABELS.astype(np.uint16))
    with pytest.raises(InputError, match=r"no image to convert .*choose with --plane"):
        convert(tmp_path / "set", tmp_path / "none", progress=False)
    convert(tmp_path / "set", tmp_path / "out", progress=False, choice=Choice.parse("dapi", "z=max"))
    (image,) = load_coco(tmp_path / "out").images
    assert image["file_name"] == "a.ome.tif"
    written = ImageFile("a", tmp_path / "out" / "images" / "a.ome.tif").read_values()[1]
    np.testing.assert_array_equal(written[..., 0], stack[:, 1].max(axis=0))
