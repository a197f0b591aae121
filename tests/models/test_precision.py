"""Prediction in pieces is Detectron2's, and in half precision it finds the boxes of float32."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from maskseg.imaging.reading import read_image
from maskseg.inference import mask_rcnn
from maskseg.inference.api import load_model
from maskseg.models import precision
from maskseg.models.precision import half_precision, inference


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei", ["MODEL.DEVICE", "cpu"])


def cpu(monkeypatch, avx512: bool, amx: bool):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_it_is_on_where_the_cpu_has_instructions_and_the_key_is_true(model, monkeypatch, avx512, amx):
    cpu(monkeypatch, avx512, amx)
    assert half_precision(model.cfg, model.model) == (torch.bfloat16 if avx512 or amx else None)
    without = model.cfg.clone()
    without.MODEL.BFLOAT16 = False
    assert half_precision(without, model.model) is None


def test_a_backbone_whose_features_stay_half_precision_is_left_in_float32(model, monkeypatch):
    cpu(monkeypatch, True, True)
    network = torch.nn.Module()
    network.backbone = model.model.backbone.bottom_up
    assert half_precision(model.cfg, network) is None


@pytest.mark.parametrize(("generation", "half"), [((9, 0), torch.float16), ((7, 0), torch.float16), ((6, 1), None)])
def test_on_a_gpu_it_is_float16_where_the_gpu_computes_in_it(model, monkeypatch, generation, half):
    monkeypatch.setattr(type(model.model), "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: generation)
    assert half_precision(model.cfg, model.model) == half


@pytest.mark.slow
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_nuclei_are_those_of_float32(model, monkeypatch, repository, half):
    """Of float16 too, in which a CPU stands for the GPU: the same layers compute in the same types."""
    image = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))
    monkeypatch.setattr(mask_rcnn, "half_precision", lambda cfg, network: half)
    fast = model.detect(image)
    monkeypatch.setattr(mask_rcnn, "half_precision", lambda cfg, network: None)
    full = model.detect(image)
    assert not np.array_equal(fast.masks, full.masks)
    assert len(full.scores) > 10
    distance = np.abs(fast.boxes[:, None] - full.boxes[None]).max(axis=2)
    near = (distance < 1) & (np.abs(fast.scores[:, None] - full.scores[None]) < 0.05)
    least = {torch.bfloat16: 0.9, torch.float16: 0.99}[half]
    assert near.any(axis=0).mean() > least
    assert near.any(axis=1).mean() > least
    assert np.abs(fast.masks[near.nonzero()[0]] - full.masks[near.nonzero()[1]]).mean() < 0.02


@pytest.mark.slow
@torch.inference_mode()
def test_in_pieces_it_is_what_detectron2_gives(model, monkeypatch, repository):
    """Three images of one batch, the second without nuclei; filled pieces that end within images and between them."""
    pixels = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))[:192, :192]
    images = [pixels, np.zeros_like(pixels), pixels[::-1]]
    samples = [{"image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))} for image in images]
    whole = model.model.inference(samples, do_postprocess=False)
    sizes = []
    monkeypatch.setattr(precision, "_PROPOSALS", 7)
    monkeypatch.setattr(precision, "_MASKS", 5)
    monkeypatch.setattr(precision, "_PROPOSALS_STEP", 3)
    monkeypatch.setattr(precision, "_MASKS_STEP", 4)
    pooler = model.model.roi_heads.mask_pooler
    pool = pooler.forward
    monkeypatch.setattr(pooler, "forward", lambda x, boxes: sizes.append(sum(map(len, boxes))) or pool(x, boxes))
    found = inference(model.model, samples)
    assert [len(one) for one in found] == [len(one) for one in whole]
    assert len(found[0]) > 5
    assert len(found[1]) == 0
    whole_pieces, rest = divmod(sum(map(len, found)), 5)
    assert rest
    assert sizes == [8] * whole_pieces + [4]
    for one, other in zip(found, whole, strict=True):
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3, rtol=0)
        torch.testing.assert_close(one.scores, other.scores, atol=1e-5, rtol=0)
        torch.testing.assert_close(one.pred_masks, other.pred_masks, atol=1e-4, rtol=0)


@pytest.mark.slow
@torch.inference_mode()
def test_it_looks_no_further_when_nothing_new_is_found(monkeypatch, repository):
    """Two images in one batch; a network that calls nearly everything an object."""
    model = load_model("nuclei", ["MODEL.DEVICE", "cpu", "MODEL.RPN.SURE", "0.0001"]).model
    pixels = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))[:192, :192]
    images = [pixels, np.ascontiguousarray(pixels[:, ::-1])]
    samples = [{"image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))} for image in images]
    proposed = []
    generator, head = model.proposal_generator, model.roi_heads.box_head
    propose, hidden = generator.predict_proposals, head.forward
    monkeypatch.setattr(generator, "predict_proposals", lambda *x: proposed.append(propose(*x)) or proposed[-1])
    rows = []
    monkeypatch.setattr(head, "forward", lambda x: rows.append(len(x)) or hidden(x))
    everything = inference(model, samples)
    every = sum(map(len, proposed[0]))
    assert sum(rows) >= every
    rows.clear()
    monkeypatch.setattr(precision, "_ROUND", 128)
    found = inference(model, samples)
    assert sum(rows) < every / 2
    for one, other in zip(found, everything, strict=True):
        assert len(one) == len(other) > 5
        torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor, atol=1e-3, rtol=0)


@pytest.mark.slow
@torch.inference_mode()
def test_a_pale_nucleus_behind_many_doubles_of_a_dark_one_is_found(monkeypatch, repository):
    """Its proposal comes after two rounds in which nothing new was found."""
    model = load_model("nuclei", ["MODEL.DEVICE", "cpu"]).model
    pixels = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))[:192, :192]
    sample = {"image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))}
    (nuclei,) = inference(model, [sample])
    dark, pale = nuclei.pred_boxes.tensor[:2]
    boxes = torch.stack([*[dark] * 24, pale])
    proposals = Instances((192, 192), proposal_boxes=Boxes(boxes), objectness_logits=torch.linspace(5, 0, len(boxes)))
    monkeypatch.setattr(precision, "_ROUND", 8)
    monkeypatch.setattr(model.proposal_generator, "forward", lambda *_: ([proposals], {}))
    (found,) = inference(model, [sample])
    assert len(found) == 2


@torch.inference_mode()
def test_where_nothing_is_found_there_are_masks_of_nothing(model):
    (found,) = inference(model.model, [{"image": torch.zeros(3, 64, 64, dtype=torch.uint8)}])
    assert found.pred_masks.shape == (0, 1, 28, 28)


@torch.inference_mode()
@pytest.mark.parametrize("shapes", [[(64, 96)], [(64, 96)] * 3, [(60, 96)], [(64, 96), (32, 96)]])
def test_images_are_normalized_as_by_detectron2(model, shapes):
    samples = [{"image": torch.randint(0, 256, (3, *shape), dtype=torch.uint8)} for shape in shapes]
    ours, theirs = precision._normalized(model.model, samples), model.model.preprocess_image(samples)
    assert torch.equal(ours.tensor, theirs.tensor)
    assert ours.image_sizes == theirs.image_sizes
    assert [one.shape for one in ours] == [one.shape for one in theirs]


def test_features_are_laid_out_once():
    features = torch.randn(2, 5, 7, 3)
    laid_out = precision._channels_last(features)
    assert torch.equal(laid_out, features)
    assert laid_out.is_contiguous(memory_format=torch.channels_last)
    assert precision._channels_last(laid_out) is laid_out
