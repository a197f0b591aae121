"""From records to samples."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask
from scipy import ndimage
from torch.utils.data import DataLoader

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_coco, load_layers, load_record, write_coco
from maskseg.data.pack import pack, unpack
from maskseg.formats.reviewed import as_field
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.models.config import load_config
from maskseg.training.augment import warp_labels
from maskseg.training.mapper import Samples, as_sample, validation_sample
from maskseg.training.sampler import EpochSampler
from maskseg.training.trainer import load_records


@pytest.fixture
def cfg(overrides):
    return load_config("nuclei_R_18_FPN", overrides(SEED=5))


def same(one, other) -> bool:
    targets, others = one["instances"], other["instances"]
    return (
        torch.equal(one["image"], other["image"])
        and torch.equal(targets.gt_masks.labels, others.gt_masks.labels)
        and torch.equal(targets.gt_masks.ids, others.gt_masks.ids)
        and torch.equal(targets.gt_boxes.tensor, others.gt_boxes.tensor)
    )


def test_a_sample_follows_from_seed_and_position_alone(cfg, dataset):
    records = dataset_dicts(f"{dataset}:train")
    samples = Samples(cfg, records)
    first = samples[7, 2]
    samples[8, 1], np.random.random(), torch.rand(3)
    assert same(samples[7, 2], first)
    assert same(Samples(cfg, records)[7, 2], first)
    assert not same(samples[8, 2], first)
    cfg.SEED = 6
    assert not same(Samples(cfg, records)[7, 2], first)


@pytest.mark.slow
@pytest.mark.parametrize(("start", "workers"), [("fork", 2), ("spawn", 1)])
def test_workers_change_nothing(cfg, dataset, start, workers):
    samples = Samples(cfg, dataset_dicts(f"{dataset}:train"))
    order = [(position, position % 6) for position in range(4)]
    loader = DataLoader(
        samples, batch_size=1, sampler=order, num_workers=workers, collate_fn=list, multiprocessing_context=start
    )
    for item, (loaded,) in zip(order, loader, strict=True):
        assert same(samples[item], loaded)


@pytest.mark.parametrize("megabytes", [0, 1])
def test_the_cache_changes_nothing(cfg, dataset, megabytes):
    records = dataset_dicts(f"{dataset}:train")
    expected = [Samples(cfg, records)[position, position % 6] for position in range(12)]
    cfg.DATALOADER.CACHE_MB = megabytes
    samples = Samples(cfg, records)
    # In another order, some for the second time.
    for position in (7, 1, 11, 0, 6, 5):
        assert same(samples[position, position % 6], expected[position])
    assert samples.images.held.all() == (megabytes > 0)


def test_stained_tissue_is_seen_in_either_way_and_grey_as_ever(overrides, write_dataset, nuclei, tmp_path):
    tissue = np.full((96, 96, 3), (210, 130, 190), np.uint8)
    cv2.circle(tissue, (48, 48), 20, (90, 50, 130), -1)
    grey = np.repeat(255 - tissue[..., :1], 3, axis=2)
    for name, image in (("tissue", tissue), ("grey", grey)):
        folder = write_dataset(tmp_path / name, {"one": nuclei(0, (96, 96), 3)})
        cv2.imwrite(str(folder / "images" / "one.png"), image[..., ::-1])
        shown = {}
        for stained in ("colour", "density", "either"):
            cfg = load_config("nuclei_R_18_FPN", [*overrides(SEED=5), "INPUT.STAINED", stained])
            samples = Samples(cfg, dataset_dicts(str(folder)))
            shown[stained] = [samples[position, 0]["image"] for position in range(12)]
            assert all(torch.equal(one, samples[position, 0]["image"]) for position, one in enumerate(shown[stained]))
        has_colour = {stained: [not torch.equal(one[0], one[1]) for one in seen] for stained, seen in shown.items()}
        assert has_colour["colour"] == [name == "tissue"] * 12 and not any(has_colour["density"])
        assert len(set(has_colour["either"])) == (2 if name == "tissue" else 1)
        if name == "grey":
            assert all(map(torch.equal, shown["colour"], shown["density"]))


def test_the_first_epoch_from_a_pack_is_that_from_the_data_set(cfg, dataset, tmp_path):
    pack(dataset, tmp_path / "pack", progress=False)
    unpack(tmp_path / "pack", tmp_path / "again", progress=False)
    sets = [load_records((f"{folder}:train",)) for folder in (dataset, tmp_path / "pack", tmp_path / "again")]
    assert {Path(record["file_name"]).suffix for record in sets[1]} == {".webp"}
    first, packed, again = (Samples(cfg, records) for records in sets)
    sampler = EpochSampler(np.ones(6), seed=5)
    for position, index in itertools.islice(sampler, 6):
        assert same(packed[position, index], first[position, index])
        assert same(again[position, index], first[position, index])
    for one, other in zip(sets[0], sets[1], strict=True):
        assert same(validation_sample(cfg, one), validation_sample(cfg, other))


def test_nuclei_that_overlap_keep_all_their_pixels(cfg, write_dataset, nuclei, tmp_path):
    labels = nuclei(0, (48, 64), 6)
    folder = write_dataset(tmp_path / "data", {"one": labels})
    data = load_coco(folder)
    # The first nucleus once more, two pixels to the side, and a large one over all.
    bitmaps = [labels == value for value in range(1, 7)]
    bitmaps += [np.roll(bitmaps[0], 2, axis=1), np.pad(np.ones((30, 40), bool), ((9, 9), (12, 12)))]
    annotations = list(data.annotations[0])
    for bitmap in bitmaps[6:]:
        rle = coco_mask.encode(np.asfortranarray(bitmap.astype(np.uint8)))
        rle["counts"] = rle["counts"].decode()
        annotations.append({**annotations[0], "id": len(annotations), "segmentation": rle})
    write_coco(folder / "annotations.json", data.images, annotations)
    cfg.INPUT.AUG.MIN_PIXELS = 1
    (record,) = dataset_dicts(str(folder))
    for position in range(8):
        sample = Samples(cfg, [record])[position, 0]
        warp = Samples(cfg, [record]).warp.draw((48, 64), np.random.default_rng((5, position)))
        alone = [warp_labels(bitmap[None].astype(np.uint16), warp, 64)[0] > 0 for bitmap in bitmaps]
        masks = sample["instances"].gt_masks
        assert len(masks.labels) == 3
        assert masks.ids.tolist() == [value for value, mask in enumerate(alone, start=1) if mask.any()]
        for value, mask in zip(masks.ids.tolist(), masks, strict=True):
            assert np.array_equal(mask.numpy(), alone[value - 1])
    sample = validation_sample(cfg, record)
    assert len(sample["instances"]) == 8
    assert len(sample["instances"].gt_masks.labels) == 3


def test_a_sample_is_what_detectron2_expects(cfg, dataset):
    samples = Samples(cfg, dataset_dicts(f"{dataset}:train"))
    for position in range(12):
        sample = samples[position, position % 6]
        targets = sample["instances"]
        assert sample["image"].shape == (3, 64, 64)
        assert sample["image"].dtype == torch.uint8
        assert targets.image_size == (64, 64)
        assert len(targets) == len(targets.gt_masks) == len(targets.gt_classes)
        # The boxes stand around the pixels that are left, and all that is bright belongs to some nucleus.
        assert torch.equal(targets.gt_boxes.tensor, targets.gt_masks.get_bounding_boxes().tensor)
        assert all(mask.sum() >= cfg.INPUT.AUG.MIN_PIXELS for mask in targets.gt_masks)
    assert len(samples[0, 3]["instances"]) == 0, "an image without a nucleus is a sample too"


def test_a_sliver_of_a_nucleus_is_no_target():
    layers = np.zeros((2, 20, 30), np.int32)
    layers[0, 0:4, 0:4], layers[1, 10:13, 10:15] = 3, 1
    record = {"image_id": "x", "height": 20, "width": 30}
    targets = as_sample(np.zeros((3, 20, 30), np.uint8), layers, record, 16)["instances"]
    assert targets.gt_masks.ids.tolist() == [3]
    assert targets.gt_boxes.tensor.tolist() == [[0, 0, 4, 4]]
    targets = as_sample(np.zeros((3, 20, 30), np.uint8), layers, record, 15)["instances"]
    assert targets.gt_masks.ids.tolist() == [1, 3]
    assert targets.gt_boxes.tensor.tolist() == [[10, 10, 15, 13], [0, 0, 4, 4]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "shrink", "expected"),
    [
        ((300, 700), True, (219, 512)),
        ((300, 700), False, (300, 700)),
        ((700, 300), True, (512, 219)),
        ((200, 256), True, (400, 512)),
        ((200, 256), False, (400, 512)),
    ],
)
def test_validation_sees_what_prediction_sees(write_dataset, nuclei, tmp_path, shape, shrink, expected):
    folder = write_dataset(tmp_path / "data", {"one": nuclei(0, shape, 20)})
    cfg = load_config("nuclei_R_18_FPN", ["INPUT.SHRINK", str(shrink)])
    (record,) = dataset_dicts(str(folder))
    sample = validation_sample(cfg, record)
    assert sample["image"].shape == (3, *expected)
    assert sample["instances"].image_size == expected
    assert len(sample["instances"]) == 20
    assert same(sample, validation_sample(cfg, record)), "nothing is random"


@pytest.mark.parametrize("name", ["nuclei_R_18_FPN", "nuclei_R_101_FPN"])
def test_validation_and_prediction_hand_the_network_the_same_picture(write_dataset, nuclei, tmp_path, name):
    folder = write_dataset(tmp_path / "data", {"one": nuclei(0, (100, 140), 10)})
    path = folder / "images" / "one.png"
    picture = cv2.imread(str(path))
    picture[..., 0] //= 2
    # Of two colours: one stain in one colour on black would be read as grey.
    picture[:40, :, 1] //= 3
    cv2.imwrite(str(path), picture)
    (record,) = dataset_dicts(str(folder))
    cfg = load_config(name)
    seen = []

    class Network:
        roi_heads = SimpleNamespace(box_predictor=SimpleNamespace(test_topk_per_image=1))
        proposal_generator = SimpleNamespace(pre_nms_topk={False: 1}, post_nms_topk={False: 1})

        def inference(self, samples, do_postprocess):
            seen.append(samples[0]["image"])
            found = Instances(samples[0]["image"].shape[1:], pred_boxes=Boxes(torch.zeros(0, 4)))
            found.scores, found.pred_masks = torch.zeros(0), torch.zeros(0, 1, 28, 28)
            return [found]

    MaskRCNNPredictor(cfg, Network()).segment(load_record(record)[0], tta="none")
    image = validation_sample(cfg, record)["image"]
    height, width = image.shape[1:]
    # Prediction pads with zeros, as the network itself does in training.
    assert torch.equal(seen[0][:, :height, :width], image)
    assert not seen[0][:, height:].any() and not seen[0][:, :, width:].any()
    # Blue is half of the others, and comes where the config has it.
    means = image.float().mean(dim=(1, 2)).tolist()
    assert means.index(min(means)) == {"RGB": 2, "BGR": 0}[cfg.INPUT.FORMAT]
    trained = Samples(cfg, [record])[0, 0]["image"].float().mean(dim=(1, 2)).tolist()
    assert trained.index(min(trained)) == means.index(min(means))


@pytest.mark.parametrize("long_side", [80, 160, 300])
def test_validation_labels_lie_on_their_nuclei(write_dataset, nuclei, tmp_path, long_side):
    labels = nuclei(2, (120, 128), 25)
    folder = write_dataset(tmp_path / "data", {"one": labels})
    cfg = load_config(
        "nuclei_R_18_FPN", ["INPUT.SHRINK", "True", "INPUT.NORMALIZE", "off", "INPUT.LONG_SIDE", f"{long_side}"]
    )
    sample = validation_sample(cfg, dataset_dicts(str(folder))[0])
    image, moved = sample["image"][0].numpy().astype(float), sample["instances"].gt_masks.labels[0].numpy()
    shifts = []
    for value in range(1, 26):
        whole = moved == value
        if whole[[0, -1]].any() or whole[:, [0, -1]].any():
            continue
        near = ndimage.binary_dilation(whole, iterations=1 + long_side // 128)
        shifts.append(np.subtract(ndimage.center_of_mass(np.where(near, image, 0)), ndimage.center_of_mass(whole)))
    assert len(shifts) > 10
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.1


@pytest.mark.slow
def test_a_record_of_the_sample_is_its_image_and_labels(repository, tmp_path):
    from tests.fixtures.converting import convert_folders as convert

    convert(repository / "datasets" / "sample" / "heldout", tmp_path, progress=False)
    record = next(item for item in dataset_dicts(str(tmp_path)) if item["image_id"].startswith("a1f50f10"))
    image, labels = load_record(record)
    original = next((repository / "datasets" / "sample" / "heldout" / record["image_id"] / "images").iterdir())
    assert np.array_equal(image, cv2.imread(str(original), cv2.IMREAD_COLOR)[..., ::-1])
    assert labels.shape == image.shape[:2]
    assert labels.max() == len(record["annotations"]) == 7


def test_an_image_of_another_size_than_annotated_is_named(write_dataset, nuclei, tmp_path):
    folder = write_dataset(tmp_path / "data", {"one": nuclei(0), "two": nuclei(1)})
    cv2.imwrite(str(folder / "images" / "two.png"), np.zeros((10, 12, 3), np.uint8))
    with pytest.raises(InputError, match=r"two\.png"):
        load_record(dataset_dicts(str(folder))[1])
    Path(folder / "images" / "one.png").unlink()
    with pytest.raises(InputError, match=r"one\.png"):
        load_record(dataset_dicts(str(folder))[0])


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_a_nucleus_keeps_its_class_however_it_is_warped(border, overrides, dataset):
    plain = {f"INPUT__AUG__{key}": 0.0 for key in ("CONTRAST", "BRIGHTNESS", "GAMMA")}
    cfg = load_config("nuclei_R_18_FPN", overrides(SEED=5, INPUT__AUG__BORDER=border, INPUT__NORMALIZE="off", **plain))
    records = dataset_dicts(f"{dataset}:train")
    # The fixture draws each nucleus in a grey of its own: odd annotations are of class 1.
    for record in records:
        for number, item in enumerate(record["annotations"]):
            item["category_id"] = number % 2
    seen = set()
    for position in range(12):
        record = records[position % len(records)]
        sample = Samples(cfg, records)[position, position % len(records)]
        targets = sample["instances"]
        greys = {60 + 5 * (number + 1): number % 2 for number in range(len(record["annotations"]))}
        for mask, kind in zip(targets.gt_masks, targets.gt_classes.tolist(), strict=True):
            values = sample["image"][0][mask]
            grey = int(torch.mode(values).values)
            if grey in greys:
                seen.add(kind)
                assert greys[grey] == kind
    assert seen == {0, 1}


@pytest.mark.parametrize("border", ["constant", "reflect"])
def test_what_nobody_has_looked_at_is_warped_with_the_image(border, overrides, dataset):
    cfg = load_config("nuclei_R_18_FPN", overrides(SEED=5, INPUT__AUG__BORDER=border))
    records = dataset_dicts(f"{dataset}:train")
    plain = Samples(cfg, records)[3, 0]
    assert plain["instances"].gt_masks.ignored is None
    record = records[0]
    # The pixels of the nuclei alone were looked at: in the sample, just those are not ignored.
    _, layers = load_layers(record)
    records[0] = {**record, "reviewed": as_field(layers.max(axis=0) > 0)}
    sample = Samples(cfg, records)[3, 0]
    ignored = sample["instances"].gt_masks.ignored
    labels = sample["instances"].gt_masks.labels
    assert ignored.any() and not (ignored & (labels > 0).any(dim=0)).any()
    validated = validation_sample(cfg, records[0])["instances"].gt_masks
    assert torch.equal(validated.ignored[: layers.shape[1]], (validated.labels == 0).all(dim=0)[: layers.shape[1]])
    # All of it reviewed is as if nothing were said.
    records[0] = {**record, "reviewed": as_field(np.ones(layers.shape[1:], bool))}
    assert same(Samples(cfg, records)[3, 0], plain)


def test_a_sample_shows_something_that_was_reviewed(overrides, write_dataset, nuclei, tmp_path):
    folder = write_dataset(tmp_path / "wide", {"a": nuclei(1, (64, 640), 20)})
    (record,) = dataset_dicts(str(folder))
    region = np.zeros((64, 640), bool)
    region[:, :70] = True
    record["reviewed"] = as_field(region)
    cfg = load_config("nuclei_R_18_FPN", overrides(SEED=5, INPUT__LONG_SIDE=640, INPUT__AUG__SCALE="[1.0, 1.0]"))
    samples = Samples(cfg, [record])
    ignored = [samples[position, 0]["instances"].gt_masks.ignored for position in range(20)]
    shown = [one is None or not bool(one.all()) for one in ignored]
    assert sum(shown) >= 14
