"""The pre-activation ResNet against a plain forward pass of the stored layers, strides where TF-slim has them."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from torch.nn import functional as F

from maskseg.core.errors import InputError
from maskseg.models.checkpoint import Checkpointer
from maskseg.models.config import load_config
from maskseg.models.resnet_v2 import ResNetV2

BLOCKS = {50: (3, 4, 6), 101: (3, 4, 23)}


def stored_layers(depth: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Made-up weights under the stored names, of sizes that keep the features near 1."""
    rng = np.random.default_rng(seed)
    layers = {}

    def conv(name, outputs, inputs, kernel):
        layers[f"{name}.weight"] = rng.normal(0, (inputs * kernel**2) ** -0.5, (outputs, inputs, kernel, kernel))
        layers[f"{name}.bias"] = rng.normal(0, 0.1, outputs)

    conv("stem", 64, 3, 7)
    channels = 64
    for index, blocks in enumerate(BLOCKS[depth]):
        out = 256 << index
        for block in range(blocks):
            name, inputs = f"res{index + 2}.{block}", channels if block == 0 else out
            layers[f"{name}.preact.scale"] = rng.uniform(0.5, 1, inputs)
            layers[f"{name}.preact.shift"] = rng.normal(0, 0.1, inputs)
            conv(f"{name}.conv1", out // 4, inputs, 1)
            conv(f"{name}.conv2", out // 4, out // 4, 3)
            conv(f"{name}.conv3", out, out // 4, 1)
            if block == 0:
                conv(f"{name}.shortcut", out, inputs, 1)
        channels = out
    return {name: value.astype(np.float16) for name, value in layers.items()}


def plain_forward(layers: dict[str, np.ndarray], x: torch.Tensor) -> dict[str, torch.Tensor]:
    """TF-slim's resnet_v2: the last unit of each stage has stride 2. Features are those of the stage's last unit."""
    layers = {name: torch.from_numpy(value.astype(np.float32)) for name, value in layers.items()}

    def conv(x, name, stride=1):
        weight = layers[f"{name}.weight"]
        return F.conv2d(x, weight, layers[f"{name}.bias"], stride, weight.shape[-1] // 2)

    x = conv(x, "stem", 2)
    height, width = x.shape[2:]
    padded = torch.full((*x.shape[:2], height + 1, width + 1), -torch.inf)
    padded[:, :, :height, :width] = x
    x = F.max_pool2d(padded, 3, 2)
    features = {}
    for stage in ("res2", "res3", "res4"):
        blocks = len({name.split(".")[1] for name in layers if name.startswith(stage)})
        for block in range(blocks):
            name, stride = f"{stage}.{block}", 2 if block == blocks - 1 else 1
            scale, shift = layers[f"{name}.preact.scale"], layers[f"{name}.preact.shift"]
            preact = F.relu(x * scale[:, None, None] + shift[:, None, None])
            if f"{name}.shortcut.weight" in layers:
                shortcut = conv(preact, f"{name}.shortcut", stride)
            else:
                shortcut = F.max_pool2d(x, 1, stride)
            inner = F.relu(conv(preact, f"{name}.conv1"))
            inner = F.relu(conv(inner, f"{name}.conv2", stride))
            x = shortcut + conv(inner, f"{name}.conv3")
        features[stage] = x
    return features


def network(depth: int, weights: Path) -> torch.nn.Module:
    cfg = load_config("nuclei_R_101_v2_FPN", ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", str(depth)])
    model = build_model(cfg)
    Checkpointer(model).load(str(weights))
    return model.backbone.bottom_up.eval()


def assert_same_features(backbone: torch.nn.Module, layers: dict[str, np.ndarray]) -> None:
    x = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (1, 3, 96, 128)).astype(np.float32))
    with torch.no_grad():
        found, expected = backbone(x), plain_forward(layers, x)
    for name, stride in (("res2", 4), ("res3", 8), ("res4", 16)):
        assert found[name].shape[2:] == (96 // stride, 128 // stride)
        # The stored network ends each stage at twice the stride: every second pixel of ours.
        ours = found[name][:, :, ::2, ::2]
        torch.testing.assert_close(ours, expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize("depth", BLOCKS)
def test_the_stored_layers_give_their_own_features(depth, tmp_path):
    layers = stored_layers(depth)
    np.savez(tmp_path / "start.npz", **layers)
    assert_same_features(network(depth, tmp_path / "start.npz"), layers)


@pytest.mark.slow
def test_the_stored_imagenet_network_gives_its_own_features():
    path = Path(os.environ.get("MASKSEG_DATA", "")).parent / "weights" / "resnet101v2_imagenet_fp16.npz"
    if not path.is_file():
        pytest.skip("needs the stored ImageNet network, weights/ beside the folder of MASKSEG_DATA")
    with np.load(path) as arrays:
        layers = dict(arrays)
    assert_same_features(network(101, path), layers)


def test_freezing_stops_at_the_stage_asked_for():
    backbone = ResNetV2(50, ["res4"], freeze_at=2)
    trained = {name.split(".")[0] for name, value in backbone.named_parameters() if value.requires_grad}
    assert trained == {"res3", "res4"}


@pytest.mark.parametrize("depth, features", [(34, ["res2"]), (50, ["res5"]), (50, [])])
def test_a_network_that_does_not_exist(depth, features):
    with pytest.raises(InputError, match=r"MODEL\.RESNETS\.(DEPTH|OUT_FEATURES)"):
        ResNetV2(depth, features)
