"""Classes through every format that has them: written, read back, named and coloured."""

import json

import cv2
import numpy as np
import pytest

from maskseg.convert.annotated import convert_annotations
from maskseg.convert.export import export
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_coco, write_coco
from maskseg.evaluation.classes import class_figures
from maskseg.evaluation.sets import compare, open_set
from maskseg.formats.classes import ClassRule, colours
from maskseg.formats.coco import to_annotations
from maskseg.formats.nuclei_table import COLUMNS
from maskseg.formats.registry import get, predicted, writers
from maskseg.formats.writer import ImageInfo, write_all
from maskseg.imaging.windows import ArraySource

from .annotated import CLASSED

NAMES = ("Tumor", "Immune cells", 'Ångström, "x" <1>')
SHAPE = (40, 60)


def masks(classes, scores=(0.9, 0.8, 0.7, 0.75)):
    labels = np.zeros(SHAPE, np.int32)
    for number, (y, x) in enumerate([(2, 2), (2, 30), (20, 2), (20, 30)], start=1):
        labels[y : y + 10 + number, x : x + 12] = number
    found = CropMasks.from_labels(labels, scores)
    found.classes = np.array(classes, np.int32)
    return found


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "set"
    (folder / "images").mkdir(parents=True)
    images, items = [], []
    # The first image has but one class, and not the first.
    for number, classes in enumerate([(2, 2, 2, 2), (0, 1, 2, 0)], start=1):
        cv2.imwrite(str(folder / "images" / f"i{number}.png"), np.zeros((*SHAPE, 3), np.uint8))
        images.append({"id": number, "file_name": f"i{number}.png", "height": 40, "width": 60})
        for body in to_annotations(masks(classes)):
            items.append({"id": len(items) + 1, "image_id": number, **body})
    write_coco(folder / "annotations.json", images, items, NAMES)
    return folder


def classes_of(folder):
    """Names of the classes by image, in the order of the boxes."""
    found = {}
    for record in dataset_dicts(str(folder)):
        rows = sorted((item["bbox"], item["class"]) for item in record["annotations"])
        found[record["image_id"]] = [name for _, name in rows]
    return found


@pytest.mark.parametrize("form", sorted(CLASSED))
def test_classes_come_back(form, data, tmp_path):
    export(str(data), tmp_path / "out", form, progress=False)
    options = {"categories": ("all",)} if form == "coco" else {}
    convert_annotations(tmp_path / "out", tmp_path / "back", form, data / "images", progress=False, **options)
    assert classes_of(tmp_path / "back") == classes_of(data)
    results, problems = compare(open_set(str(data)), open_set(str(tmp_path / "back")))
    assert not problems and all(result.scores["dsb_score"] == 1 for result in results.values())
    assert class_figures(result.classes for result in results.values())["mpq_plus"] == 1


def test_classes_of_a_data_set_are_named_merged_and_kept(data, tmp_path):
    convert_annotations(data, tmp_path / "kept", "coco", categories=("all",), progress=False)
    assert load_coco(tmp_path / "kept").class_names == NAMES
    rule = ClassRule.parse(None, ["cell=Tumor,Immune cells"])
    summary = convert_annotations(data, tmp_path / "merged", "coco", categories=("all",), rule=rule, progress=False)
    assert summary.classes == ["cell", NAMES[2]]
    convert_annotations(
        data, tmp_path / "one", "coco", categories=("all",), rule=ClassRule.parse(None, ["all"]), progress=False
    )
    content = json.loads((tmp_path / "one" / "annotations.json").read_text())
    assert content["categories"] == [{"id": 1, "name": "nucleus", "supercategory": "cell"}]
    assert {item["category_id"] for item in content["annotations"]} == {1}


def written(tmp_path, classes, names, tiles=False):
    """All that predict writes of an image."""
    found = masks(classes)
    source = ArraySource(np.full((*SHAPE, 3), 128, np.uint8))
    info = ImageInfo("a", SHAPE, "a.png", source, at_most=4 if tiles else None, class_names=tuple(names))
    chosen = [get(name, "--formats", predicted()) for name in predicted() if name not in ("zarr", "parquet")]
    opened = writers(chosen, info, tmp_path)
    parts = [(found[:2], 15), (found[2:], 40)] if tiles else [(found, 40)]
    return dict(zip(opened, write_all([*opened.values()], parts), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("tiles", [False, True])
def test_every_output_names_the_class(tiles, tmp_path):
    records = written(tmp_path, (0, 1, 2, 0), NAMES, tiles)
    of = [NAMES[kind] for kind in (0, 1, 2, 0)]
    features = json.loads((tmp_path / "geojson" / "a.geojson").read_text())["features"]
    assert [feature["properties"]["classification"]["name"] for feature in features] == of
    assert features[0]["properties"]["classification"]["color"] == [200, 0, 0]  # QuPath's Tumor
    assert len({tuple(feature["properties"]["classification"]["color"]) for feature in features}) == 3
    assert [shape["label"] for shape in json.loads((tmp_path / "labelme" / "a.json").read_text())["shapes"]] == of
    assert [row[-1] for row in records["nuclei"]["nuclei"]] == of
    assert records["nuclei"]["row"]["nuclei_Tumor"] == 2
    _, items, names = records["coco"]
    assert [names[item["category_id"] - 1] for item in items] == of
    assert "<title>2: Immune cells 0.800</title>" in (tmp_path / "svg" / "a.svg").read_text()
    picture = cv2.imread(str(tmp_path / "overlays" / "a.png"))[..., ::-1]
    # The legend is below the picture, and each class has outlines in its colour.
    assert picture.shape[0] > picture.shape[1] * SHAPE[0] / SHAPE[1]
    for colour in colours(NAMES).values():
        assert (picture[: SHAPE[0] * 20] == colour).all(axis=2).any()


def test_one_class_of_another_name_is_as_one_nucleus(tmp_path):
    one, other = written(tmp_path / "a", (0, 0, 0, 0), ("nucleus",)), written(tmp_path / "b", (0,) * 4, ("Tumor",))
    assert one["nuclei"]["nuclei"] == other["nuclei"]["nuclei"] and len(one["nuclei"]["nuclei"][0]) == len(COLUMNS)
    for name in ("svg/a.svg", "imagej/a.zip", "overlays/a.png", "xml/a.xml", "yolo/a.txt", "labels/a.tif"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    text = (tmp_path / "b" / "geojson" / "a.geojson").read_text()
    assert text.replace("Tumor", "nucleus") == (tmp_path / "a" / "geojson" / "a.geojson").read_text()
