"""A ResNet-101 that starts from the weights of a ResNet-50."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_backbone
from torch import nn

from maskseg.models.checkpoint import Checkpointer
from maskseg.models.config import load_config


def bottom_up(depth: int) -> nn.Module:
    """The reference's backbone, narrow, under the names that it has in the whole network."""
    narrow = ["MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8"]
    narrow += ["MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.FPN.OUT_CHANNELS", "8", "MODEL.DEVICE", "cpu"]
    cfg = load_config("nuclei_R_101_FPN", ["MODEL.RESNETS.DEPTH", str(depth), *narrow])
    return nn.ModuleDict({"backbone": build_backbone(cfg)})


def resnet50() -> dict[str, np.ndarray]:
    """Random weights of a ResNet-50 under Detectron2's names."""
    rng = np.random.default_rng(1)
    return {
        key.removeprefix("backbone.bottom_up."): rng.normal(size=tuple(value.shape)).astype(np.float32)
        for key, value in bottom_up(50).state_dict().items()
        if "bottom_up" in key and "running" not in key
    }


def caffe2_name(name: str) -> str:
    """The name under which the MSRA weights of Detectron's zoo hold it."""
    name = name.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
    name = name.replace(".shortcut", ".branch1")
    for number, letter in enumerate("abc", start=1):
        if name.startswith("res") and name[3].isdigit():
            name = name.replace(f".conv{number}", f".branch2{letter}")
    name = name.replace(".norm.weight", "_bn_s").replace(".norm.bias", "_bn_b")
    name = name.replace("res_conv1_bn.weight", "res_conv1_bn_s").replace("res_conv1_bn.bias", "res_conv1_bn_b")
    return name.replace(".weight", "_w").replace(".bias", "_b").replace(".", "_")


def test_caffe2_names_of_this_test_are_those_of_the_zoo():
    assert {caffe2_name(name) for name in resnet50()} >= {
        "conv1_w", "res_conv1_bn_s", "res_conv1_bn_b", "res2_0_branch1_w", "res2_0_branch1_bn_s",
        "res4_5_branch2a_w", "res4_5_branch2c_bn_b", "res5_2_branch2b_w",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("names", ["detectron2", "caffe2"])
def test_resnet101_starts_from_resnet50_weights(tmp_path, names):
    values = resnet50()
    if names == "caffe2":
        content = {caffe2_name(name): value for name, value in values.items()}
        content["fc1000_w"] = np.zeros((1000, 64), np.float32)
    else:
        named = {f"backbone.bottom_up.{name}": value for name, value in values.items()}
        content = {"model": named, "__author__": "Detectron2"}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(content, protocol=2))

    model = bottom_up(101)
    start = {key: value.clone() for key, value in model.state_dict().items()}
    Checkpointer(model).load(str(tmp_path / "R-50.pkl"))
    taken = set()
    for key, value in model.state_dict().items():
        name = key.removeprefix("backbone.bottom_up.")
        if name in values:
            assert torch.equal(value, torch.from_numpy(values[name])), name
            taken.add(name)
        elif "running" not in name:
            # A new block begins near the identity, see tests/models/test_starts.py.
            damped = 0.1 if name.endswith("conv3.norm.weight") else 1.0
            assert torch.equal(value, start[key] * damped), name
    assert taken == values.keys()
    blocks = {name.rpartition(".conv")[0] for name in taken if name.startswith("res4") and "conv" in name}
    assert blocks == {f"res4.{number}" for number in range(6)}
    assert {name.split(".")[0] for name in taken} == {"stem", "res2", "res3", "res4", "res5"}
    assert "backbone.bottom_up.res4.22.conv1.weight" in start, "the rest of res4 begins afresh"
