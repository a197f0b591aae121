import gzip
import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import (
    dataset_dicts,
    folder_and_part,
    image_id,
    is_dataset,
    label_layers,
    load_coco,
    load_layers,
    load_record,
    write_coco,
)
from maskseg.data.split import write_split
from tests.fixtures.converting import convert_folders as convert


@pytest.fixture
def dataset(make_folder, tmp_path):
    """Four images with 0 to 3 nuclei."""
    for number in range(4):
        source = make_folder(f"image{number}", nuclei=number).parent
    convert(source, tmp_path / "set", modalities={"image3": "tissue"}, progress=False)
    return tmp_path / "set"


def split(dataset, **parts):
    write_split(dataset / "split.csv", [{"image_id": name, "part": part} for name, part in parts.items()])


def test_pycocotools_reads_the_same_masks(dataset):
    other = COCO(dataset / "annotations.json")
    data = load_coco(dataset)
    assert [len(data.masks(image)) for image in data.images] == [0, 1, 2, 3]
    for image in data.images:
        labels = np.zeros((40, 50), np.int32)
        for label, annotation in enumerate(other.loadAnns(other.getAnnIds(image["id"])), 1):
            labels[other.annToMask(annotation) > 0] = label
            assert annotation["category_id"] == other.getCatIds("nucleus")[0]
        np.testing.assert_array_equal(data.masks(image).to_labels(), labels)


def test_what_is_written_is_read_again(dataset, tmp_path):
    data = load_coco(dataset / "annotations.json")
    annotations = [item for items in data.annotations.values() for item in items]
    write_coco(tmp_path / "copy.json", data.images, annotations)
    again = load_coco(tmp_path / "copy.json")
    assert (again.images, again.annotations) == (data.images, data.annotations)


def test_records_are_what_detectron2_wants(dataset):
    from detectron2.structures import BoxMode

    records = dataset_dicts(str(dataset))
    data = load_coco(dataset)
    assert [record["image_id"] for record in records] == [image_id(image) for image in data.images]
    assert [record["modality"] for record in records] == ["", "", "", "tissue"]
    for record, image in zip(records, data.images, strict=True):
        assert record["file_name"] == str(dataset / "images" / image["file_name"])
        masks = data.masks(image)
        assert (record["height"], record["width"]) == masks.shape
        boxes = [BoxMode.convert(item["bbox"], item["bbox_mode"], BoxMode.XYXY_ABS) for item in record["annotations"]]
        assert boxes == masks.boxes.tolist()
        assert all(item["category_id"] == 0 for item in record["annotations"])
        assert [item["segmentation"] for item in record["annotations"]] == masks.to_rle()


def test_parts_divide_the_records(dataset):
    split(dataset, image0="train", image1="dev", image2="train", image3="dev")
    everything = {record["image_id"] for record in dataset_dicts(str(dataset))}
    train, dev = ({record["image_id"] for record in dataset_dicts(f"{dataset}:{part}")} for part in ("train", "dev"))
    assert train == {"image0", "image2"}
    assert train | dev == everything
    assert not train & dev


def test_the_modality_of_the_split_goes_first(dataset):
    rows = [{"image_id": f"image{i}", "part": "train", "modality": kind} for i, kind in enumerate(("a", "b", "c", ""))]
    write_split(dataset / "split.csv", rows)
    assert [record["modality"] for record in dataset_dicts(f"{dataset}:train")] == ["a", "b", "c", "tissue"]


def test_a_part_that_is_not_there_names_those_that_are(dataset):
    split(dataset, image0="train", image1="dev", image2="train", image3="dev")
    with pytest.raises(InputError, match="no part 'test'; it has dev, train"):
        dataset_dicts(f"{dataset}:test")


def test_an_image_in_no_part_is_named(dataset):
    split(dataset, image0="train")
    with pytest.raises(InputError, match=r"image1 is in no part.*maskseg split"):
        dataset_dicts(f"{dataset}:train")


def test_a_part_without_a_split_says_how_to_make_one(dataset):
    with pytest.raises(InputError, match=r"split\.csv.*maskseg split"):
        dataset_dicts(f"{dataset}:train")


def polygons(data):
    data["annotations"][0]["segmentation"] = [[1, 1, 5, 1, 5, 5]]


def no_images(data):
    del data["images"]


def no_segmentation(data):
    del data["annotations"][0]["segmentation"]


@pytest.mark.parametrize("spoil", [polygons, no_images, no_segmentation])
def test_a_file_of_another_kind_is_one_line_with_its_name(spoil, dataset):
    path = dataset / "annotations.json"
    data = json.loads(path.read_text())
    spoil(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError) as error:
        load_coco(dataset)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"3"])
def test_a_damaged_file_is_one_line_with_its_name(content, tmp_path):
    path = tmp_path / "annotations.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"annotations\.json: not a COCO file"):
        load_coco(path)


def test_a_missing_data_set_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="maskseg convert"):
        load_coco(tmp_path)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-9],
        lambda data: data[:40] + bytes([data[40] ^ 255]) + data[41:],
        lambda data: b"",
        lambda data: b"{}",
        lambda data: gzip.compress(b"{"),
    ],
)
def test_a_packed_file_is_read_and_a_damaged_one_is_one_line_with_its_name(dataset, spoil):
    plain = load_coco(dataset)
    assert is_dataset(dataset)
    path = dataset / "annotations.json.gz"
    path.write_bytes(gzip.compress((dataset / "annotations.json").read_bytes()))
    (dataset / "annotations.json").unlink()
    assert is_dataset(dataset)
    packed = load_coco(dataset)
    assert packed.path == path
    assert (packed.images, packed.annotations) == (plain.images, plain.annotations)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"annotations\.json\.gz: not a COCO file"):
        load_coco(dataset)
    path.unlink()
    assert not is_dataset(dataset)


@pytest.mark.slow
@given(st.integers(0, 2**32 - 1), st.integers(0, 12))
def test_layers_hold_every_pixel_of_every_mask(seed, count):
    random = np.random.default_rng(seed)
    stack = np.zeros((count, 20, 24), bool)
    for mask in stack:
        y, x, h, w = random.integers(0, 16, 4)
        mask[y : y + h + 1, x : x + w + 1] = True
    masks = CropMasks.from_rle([CropMasks.from_labels(mask.astype(np.int32)).to_rle()[0] for mask in stack], (20, 24))
    layers = label_layers(masks.to_rle(), (20, 24))
    assert layers.dtype == np.uint16
    assert layers.shape[1:] == (20, 24)
    for value, mask in enumerate(stack, start=1):
        assert np.array_equal((layers == value).any(axis=0), mask)
        assert np.count_nonzero((layers == value).any(axis=(1, 2))) == 1, "each mask lies in one layer"
    assert not np.isin(layers, range(count + 1), invert=True).any()
    # One layer where nothing overlaps, and otherwise no empty one.
    assert (len(layers) == 1) == (stack.sum(axis=0).max(initial=0) < 2)
    assert len(layers) == 1 or layers.any(axis=(1, 2)).all()
    over_each_other = np.zeros((20, 24), np.int32)
    for layer in layers:
        over_each_other[layer > 0] = layer[layer > 0]
    assert np.array_equal(over_each_other, masks.to_labels())


def test_a_record_has_the_labels_of_its_masks_where_they_overlap(dataset):
    data = load_coco(dataset)
    annotations = [item for items in data.annotations.values() for item in items]
    image = data.images[3]
    large = np.zeros((40, 50), np.int32)
    large[4:16, 1:30] = 1
    (rle,) = CropMasks.from_labels(large).to_rle()
    annotations.append({**annotations[-1], "id": 99, "segmentation": rle})
    write_coco(dataset / "annotations.json", data.images, annotations)
    record = dataset_dicts(str(dataset))[3]
    picture, labels = load_record(record)
    assert labels.dtype == np.int32
    assert np.array_equal(labels, load_coco(dataset).masks(image).to_labels())
    assert set(np.unique(labels)) == {0, 1, 2, 3, 4}
    again, layers = load_layers(record)
    assert np.array_equal(picture, again)
    assert np.array_equal((layers == 4).any(axis=0), large > 0)


@pytest.mark.slow
def test_labels_beyond_16_bits():
    # 256 x 260 pixels, each a mask of its own.
    shape = (256, 260)
    pixels = np.arange(shape[0] * shape[1])
    rles = [{"size": shape, "counts": [int(i), 1, len(pixels) - int(i) - 1]} for i in pixels]
    rles[0]["counts"] = [0, 1, len(pixels) - 1]
    layers = label_layers(rles, shape)
    assert layers.dtype == np.int32
    assert np.array_equal(layers[0], pixels.reshape(shape, order="F") + 1)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("data/mine", ("data/mine", "")),
        ("data/mine:train", ("data/mine", "train")),
        ("data/mine:-fold1", ("data/mine", "-fold1")),
        # The last colon, and none that a path goes on after.
        ("data/ba:se:train", ("data/ba:se", "train")),
        ("data/ba:se/mine", ("data/ba:se/mine", "")),
        (r"C:\data\mine", (r"C:\data\mine", "")),
        (r"C:\data\mine:train", (r"C:\data\mine", "train")),
        ("C:/data:train", ("C:/data", "train")),
    ],
)
def test_the_last_colon_separates_the_part(spec, expected):
    assert folder_and_part(spec) == expected


@pytest.mark.skipif(os.name == "nt", reason="no colon in the name of a folder there")
def test_a_folder_with_a_colon_is_one_for_every_reader(dataset, tmp_path, monkeypatch):
    from maskseg.convert.export import export
    from maskseg.evaluation.sets import open_set
    from maskseg.training.finetune import default_folder

    split(dataset, image0="train", image1="train", image2="train", image3="dev")
    folder = dataset.rename(tmp_path / "ba:se")
    monkeypatch.chdir(tmp_path)
    assert len(dataset_dicts(str(folder))) == len(dataset_dicts("ba:se")) == len(open_set("ba:se").ids) == 4
    assert len(dataset_dicts("ba:se:dev")) == len(open_set("ba:se:dev").ids) == 1
    assert export("ba:se", tmp_path / "all", "labels", progress=False).images == 4
    assert export("ba:se:dev", tmp_path / "one", "labels", progress=False).images == 1
    assert default_folder("nuclei", "ba:se:dev") == "runs/nuclei_ba:se_dev"
    # Also where the folder before the colon is one, too.
    (tmp_path / "ba").mkdir()
    assert len(dataset_dicts("ba:se")) == 4
