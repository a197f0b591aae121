"""Prediction in bfloat16 finds the boxes of float32, where the CPU has it and the config wants it."""

import numpy as np
import pytest
import torch

from maskseg.images import read_image
from maskseg.inference.predictor import load_model
from maskseg.models.precision import in_bfloat16


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei", ["MODEL.DEVICE", "cpu"])


def cpu(monkeypatch, avx512: bool, amx: bool):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)


@pytest.mark.parametrize(("avx512", "amx"), [(True, False), (False, True), (False, False)])
def test_it_is_on_where_the_cpu_has_instructions_and_the_key_is_true(model, monkeypatch, avx512, amx):
    cpu(monkeypatch, avx512, amx)
    assert in_bfloat16(model.cfg, model.model) == (avx512 or amx)
    without = model.cfg.clone()
    without.MODEL.BFLOAT16 = False
    assert not in_bfloat16(without, model.model)


def test_a_backbone_whose_features_stay_in_bfloat16_is_left_in_float32(model, monkeypatch):
    cpu(monkeypatch, True, True)
    network = torch.nn.Module()
    network.backbone = model.model.backbone.bottom_up
    assert not in_bfloat16(model.cfg, network)


def test_nuclei_are_those_of_float32(model, monkeypatch, repository):
    image = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))
    cpu(monkeypatch, True, False)
    half = model.detect(image)
    cpu(monkeypatch, False, False)
    full = model.detect(image)
    assert not np.array_equal(half.masks, full.masks)
    assert len(full.scores) > 10
    distance = np.abs(half.boxes[:, None] - full.boxes[None]).max(axis=2)
    near = (distance < 1) & (np.abs(half.scores[:, None] - full.scores[None]) < 0.05)
    assert near.any(axis=0).mean() > 0.9
    assert near.any(axis=1).mean() > 0.9
    assert np.abs(half.masks[near.nonzero()[0]] - full.masks[near.nonzero()[1]]).mean() < 0.02
