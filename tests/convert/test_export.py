from pathlib import Path

import cv2
import numpy as np
import pytest

from maskseg.convert import tissue
from maskseg.convert.export import export
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import image_id, load_coco, write_coco
from maskseg.formats.aperio_xml import write_aperio_xml
from maskseg.formats.coco import annotation
from maskseg.formats.geojson import read_geojson, write_geojson
from maskseg.formats.labels import read_labels, write_labels
from maskseg.imaging.reading import read_image
from tests.fixtures.converting import convert_coco, convert_folders, convert_labels

SHAPE = (60, 70)
SAMPLE = Path(__file__).parents[2] / "datasets" / "sample" / "train"


@pytest.fixture
def dataset(tmp_path):
    """The sample's train part as a data set."""
    convert_folders(SAMPLE, tmp_path / "set", progress=False)
    return tmp_path / "set"


@pytest.fixture
def overlapping(tmp_path):
    """One image: two squares that overlap with unequal scores, a small one inside a large one with equal scores."""
    boxes = [(2, 2, 12, 12), (7, 7, 17, 17), (20, 20, 50, 50), (30, 30, 34, 34), (60, 10, 62, 12), (60, 10, 62, 12)]
    scores = [0.9, 0.6, 1, 1, 0.9, 0.5]
    items = []
    for number, (box, score) in enumerate(zip(boxes, scores, strict=True), start=1):
        bitmap = np.ones((box[3] - box[1], box[2] - box[0]), bool)
        items.append({"id": number, "image_id": 1, "score": score, **annotation(bitmap, box, SHAPE)})
    image = {"id": 1, "file_name": "a.png", "height": SHAPE[0], "width": SHAPE[1], "microns_per_pixel": 0.5}
    write_coco(tmp_path / "over" / "annotations.json", [image], items)
    (tmp_path / "over" / "images").mkdir()
    cv2.imwrite(str(tmp_path / "over" / "images" / "a.png"), np.zeros((*SHAPE, 3), np.uint8))
    return tmp_path / "over"


def nuclei(dataset):
    """Image id -> (image file, sorted masks)."""
    data = load_coco(dataset)
    return {
        image_id(image): (
            (data.path.parent / "images" / image["file_name"]).read_bytes(),
            sorted(item["segmentation"]["counts"] for item in data.annotations.get(image["id"], [])),
        )
        for image in data.images
    }


CONVERTERS = {"labels": convert_labels, "folders": convert_folders, "coco": convert_coco}


@pytest.mark.slow
@pytest.mark.parametrize("form", CONVERTERS)
def test_what_is_exported_converts_to_equal_masks_and_images(form, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("maskseg.core.processes._LEAST_ITEMS", 1)
    summary = export(str(dataset), tmp_path / form, form, workers=2, progress=False)
    CONVERTERS[form](tmp_path / form, tmp_path / "back", workers=2, progress=False)
    assert summary.left_out == []
    assert summary.shared == 0  # so that label images hold all of it
    assert summary.masks == sum(len(masks) for _, masks in nuclei(dataset).values()) > 100
    assert nuclei(tmp_path / "back") == nuclei(dataset)


@pytest.mark.slow
def test_aperio_xml_converts_to_equal_masks(dataset, tmp_path):
    export(str(dataset), tmp_path / "xml", "xml", progress=False)
    tissue.convert_tissue(dataset / "images", tmp_path / "xml", tmp_path / "back", pieces=1, progress=False)
    assert [masks for _, masks in nuclei(tmp_path / "back").values()] == [
        masks for _, masks in nuclei(dataset).values()
    ]


@pytest.mark.slow
def test_geojson_holds_the_masks(dataset, tmp_path):
    export(str(dataset), tmp_path / "out", "geojson", progress=False)
    data = load_coco(dataset)
    for image in data.images:
        back = read_geojson(tmp_path / "out" / f"{image_id(image)}.geojson", (image["height"], image["width"]))
        assert back.to_rle() == data.masks(image).to_rle()


@pytest.mark.parametrize(("form", "write"), [("xml", write_aperio_xml), ("geojson", write_geojson)])
def test_outlines_are_those_of_the_writer(form, write, overlapping, tmp_path):
    export(str(overlapping), tmp_path / "out", form, progress=False)
    data = load_coco(overlapping)
    write(tmp_path / "expected", data.masks(data.images[0]), *([0.5] if form == "xml" else []))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"a.{form}"]
    assert (tmp_path / "out" / f"a.{form}").read_bytes() == (tmp_path / "expected").read_bytes()


def test_where_nuclei_overlap_the_higher_score_then_the_smaller_has_the_pixel(overlapping, tmp_path):
    summary = export(str(overlapping), tmp_path / "out", "labels", progress=False)
    labels = read_labels(tmp_path / "out" / "masks" / "a.tif")
    assert labels[9, 9] == 1
    assert labels[32, 32] == 4
    assert [(labels == value).sum() for value in range(1, 7)] == [100, 75, 900 - 16, 16, 4, 0]
    # Twenty-five and sixteen are shared, and the four of a nucleus that nothing is left of.
    assert summary.shared == 25 + 16 + 4
    assert "45 shared pixels" in str(summary)
    assert (summary.masks, summary.annotation_count) == (5, 6)
    (fault,) = summary.left_out
    assert "wholly covered" in fault.reason


@pytest.mark.parametrize("form", ["folders", "coco", "geojson"])
def test_the_other_forms_hold_overlaps(form, overlapping, tmp_path):
    summary = export(str(overlapping), tmp_path / "out", form, progress=False)
    assert (summary.masks, summary.shared, summary.left_out) == (6, 0, [])


def test_scores_are_kept_in_coco(overlapping, tmp_path):
    export(str(overlapping), tmp_path / "out", "coco", progress=False)
    (items,) = load_coco(tmp_path / "out").annotations.values()
    assert [item["score"] for item in items] == [0.9, 0.6, 1, 1, 0.9, 0.5]
    assert load_coco(tmp_path / "out").images[0]["microns_per_pixel"] == 0.5


@pytest.fixture
def labels(tmp_path):
    """Label images as `maskseg predict` writes them, and a folder of images elsewhere."""
    array = np.zeros(SHAPE, np.int32)
    array[3:9, 4:8], array[20:30, 5:40] = 5, 9
    array[22:24, 10:12] = 0
    for name in ("a", "b"):
        write_labels(tmp_path / "pred" / "labels" / f"{name}.tif", array)
        (tmp_path / "photos").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), np.zeros((*SHAPE, 3), np.uint8))
    return tmp_path / "pred", tmp_path / "photos", array


@pytest.mark.parametrize("form", ["labels", "folders", "coco", "xml", "geojson"])
@pytest.mark.parametrize("with_images", [False, True])
def test_label_images_go_to_every_form(form, with_images, labels, tmp_path):
    source, photos, array = labels
    out = tmp_path / "out"
    summary = export(str(source), out, form, photos if with_images else None, progress=False)
    assert (summary.images, summary.masks, summary.left_out) == (2, 4, [])
    images = [path for path in out.rglob("*.png") if path.parent.name == "images"]
    assert len(images) == (2 if with_images and form in CONVERTERS else 0)
    if images and form != "folders":  # which has its holes filled
        CONVERTERS[form](out, tmp_path / "back", progress=False)
        data = load_coco(tmp_path / "back")
        for image in data.images:
            assert data.masks(image).to_rle() == CropMasks.from_labels(array).to_rle()


def test_mask_folders_hold_one_png_a_nucleus(labels, tmp_path):
    source, _, array = labels
    export(str(source), tmp_path / "out", "folders", progress=False)
    masks = [
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "out" / "b" / "masks").iterdir())
    ]
    assert [np.unique(mask).tolist() for mask in masks] == [[0, 255]] * 2
    assert all((mask == 255 * (array == value)).all() for mask, value in zip(masks, (5, 9), strict=True))


@pytest.mark.slow
def test_a_part_of_a_data_set(dataset, tmp_path):
    names = sorted(nuclei(dataset))
    rows = "".join(f"{name},{'dev' if name == names[0] else 'train'}\n" for name in names)
    (dataset / "split.csv").write_text(f"image_id,part\n{rows}")
    summary = export(f"{dataset}:dev", tmp_path / "out", "labels", progress=False)
    assert summary.images == 1
    assert [path.stem for path in (tmp_path / "out" / "masks").iterdir()] == [names[0]]
    with pytest.raises(InputError, match=r"no part .*; it has dev, train"):
        export(f"{dataset}:test", tmp_path / "out", "labels", progress=False)


def no_image(source, photos):
    (photos / "b.png").unlink()
    return "no image b"


def empty_labels(source, photos):
    (source / "labels" / "b.tif").write_bytes(b"")
    return "not a readable"


def former_masks(source, photos):
    (photos.parent / "out" / "b" / "masks").mkdir(parents=True)
    (photos.parent / "out" / "b" / "masks" / "0003.png").write_bytes(b"x")
    return "holds files already"


@pytest.mark.parametrize("spoil", [no_image, empty_labels, former_masks])
def test_a_bad_image_is_one_line_and_costs_only_itself(spoil, labels, tmp_path):
    source, photos, _ = labels
    says = spoil(source, photos)
    summary = export(str(source), tmp_path / "out", "folders", photos, progress=False)
    (fault,) = summary.left_out
    assert says in fault.reason
    assert "\n" not in fault.reason
    assert fault.file.endswith("b.tif")
    assert (summary.images, summary.masks) == (1, 2)
    assert read_image(tmp_path / "out" / "a" / "images" / "a.png").shape[:2] == SHAPE


@pytest.mark.parametrize("kind", ["missing", "empty", "no COCO", "no size"])
def test_nothing_to_export_is_one_line(kind, tmp_path):
    source = tmp_path / "source"
    if kind == "empty":
        source.mkdir()
    if kind == "no COCO":
        source.write_text("{}")
    if kind == "no size":
        write_coco(source, [{"id": 1, "file_name": "a.png", "height": 3}], [])
    with pytest.raises(InputError, match="source") as error:
        export(str(source), tmp_path / "out", "labels", progress=False)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
