"""Weights that a network takes, and what it says of those that do not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from maskseg.core.errors import InputError
from maskseg.models.checkpoint import Checkpointer
from maskseg.models.config import load_config


def write(path: Path, **values: np.ndarray) -> str:
    np.savez(path, **values)
    return str(path)


@pytest.mark.parametrize("path", ["nowhere/weights.pth", "detectron2://no/such/model.pkl", "weights.pth"])
def test_weights_that_cannot_be_had_are_one_line(path, monkeypatch):
    checkpointer = Checkpointer(nn.Linear(3, 2))

    class Offline:
        def get_local_path(self, name):
            if "://" in name:
                raise OSError("no\nnetwork")
            return name

    monkeypatch.setattr(checkpointer, "path_manager", Offline())
    with pytest.raises(InputError, match=f"{path}: .*MODEL.WEIGHTS") as caught:
        checkpointer.load(path)
    assert "\n" not in str(caught.value)


def test_weights_of_which_none_fits_are_refused(tmp_path):
    path = write(tmp_path / "other.npz", other=np.ones(3))
    model = nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"other\.npz: none of its weights fits"):
        Checkpointer(model).load(path)


def warnings(caplog) -> list[str]:
    """Ours; Detectron2 has its own."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("maskseg")]


def test_a_part_may_be_started_from_and_what_is_not_is_said(tmp_path, caplog):
    model = nn.Linear(3, 2)
    start = model.weight.clone()
    part = write(tmp_path / "part.npz", weight=np.ones((5, 5)), bias=np.ones(2))
    Checkpointer(model).resume_or_load(part, resume=False)
    assert torch.equal(model.weight, start)
    assert torch.equal(model.bias, torch.ones(2))
    assert warnings(caplog) == [
        f"{part}: 1 of the network's 2 tensors are taken from it; the others start afresh: weight (1); "
        "of another shape: weight is 5 x 5 there, 2 x 3 here"
    ]
    caplog.clear()
    whole = write(tmp_path / "whole.npz", weight=np.ones((2, 3)), bias=np.ones(2))
    Checkpointer(model).resume_or_load(whole, resume=False)
    assert warnings(caplog) == []


def test_a_checkpoint_to_go_on_from_has_to_fit_wholly(tmp_path):
    Checkpointer(nn.Linear(3, 2), str(tmp_path)).save("model_0000009")
    for model, reason in (
        (nn.Linear(4, 2), "weight is 2 x 3 there, 2 x 4 here"),
        (nn.ModuleDict({"weight": nn.Linear(3, 2)}), "it has no weight.weight"),
        (nn.Linear(3, 2, bias=False), "the network has no bias"),
    ):
        with pytest.raises(InputError, match=r"model_0000009\.pth: a checkpoint of another network") as caught:
            Checkpointer(model, str(tmp_path)).resume_or_load("", resume=True)
        assert reason in str(caught.value)


@pytest.mark.slow
def test_anchors_that_do_not_match_are_named(tmp_path, caplog):
    narrow = ["MODEL.FPN.OUT_CHANNELS", "8", "MODEL.ROI_BOX_HEAD.FC_DIM", "8", "MODEL.ROI_MASK_HEAD.CONV_DIM", "8"]
    three, one = (
        build_model(load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu", *narrow, *more]))
        for more in ([], ["MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]"])
    )
    Checkpointer(three, str(tmp_path)).save("model_0000009")
    said = "3 anchors a cell there, 1 by the config's MODEL.ANCHOR_GENERATOR"
    Checkpointer(one).resume_or_load(str(tmp_path / "model_0000009.pth"), resume=False)
    (warning,) = warnings(caplog)
    assert f"of another shape: {said}" in warning
    assert "proposal_generator.rpn_head (4)" in warning
    with pytest.raises(InputError) as caught:
        Checkpointer(one, str(tmp_path)).resume_or_load("", resume=True)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
