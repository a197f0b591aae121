"""How a network begins: new residual blocks near the identity, gamma and beta trained."""

import numpy as np
import pytest
import torch
from detectron2.layers import CNNBlockBase, FrozenBatchNorm2d
from detectron2.modeling import build_backbone, build_model

from maskseg.imaging.reading import read_image
from maskseg.models.checkpoint import Checkpointer
from maskseg.models.config import load_config
from maskseg.models.starts import TrainedAffine, damp_new_blocks
from maskseg.training.trainer import Trainer

# The real depths, in a tenth of the channels.
NARROW = ["MODEL.DEVICE", "cpu", "MODEL.FPN.OUT_CHANNELS", "32"]
THIN = [
    "MODEL.RESNETS.STEM_OUT_CHANNELS",
    "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP",
    "8",
    "MODEL.RESNETS.RES2_OUT_CHANNELS",
    "32",
]


def config(name: str, *overrides: str):
    thin = THIN if name == "nuclei_R_101_FPN" else []
    return load_config(name, [*NARROW, *thin, *overrides])


def bottom_up(cfg):
    return build_backbone(cfg).bottom_up.eval()


def blocks(network) -> dict[str, CNNBlockBase]:
    return {
        name: block for name, block in network.named_modules() if isinstance(block, CNNBlockBase) and name != "stem"
    }


def rms_of_blocks(network, images: torch.Tensor) -> dict[str, float]:
    """Root mean square of what each residual block gives."""
    seen: dict[str, float] = {}
    hooks = [
        block.register_forward_hook(
            lambda _m, _i, out, name=name: seen.update({name: out.square().mean().sqrt().item()})
        )
        for name, block in blocks(network).items()
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.fixture(scope="module")
def images(repository):
    """Two sample images, scaled as ImageNet networks want them."""
    paths = sorted((repository / "datasets/sample").rglob("images/*.png"))[:2]
    pixels = [read_image(path)[:128, :128].astype(np.float32) for path in paths]
    return torch.from_numpy(np.stack(pixels).transpose(0, 3, 1, 2)) / 64 - 1


def normalised(network, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Weights whose blocks leave features of variance 1 before each sum, as those of a trained network do."""
    from detectron2.layers import Conv2d

    def norm(module, inputs, output):
        scale = 1 / output.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-3)
        module.norm.weight.data.mul_(0.5 * scale.flatten())
        return output * 0.5 * scale

    hooks = [
        module.register_forward_hook(norm)
        for module in network.modules()
        if isinstance(module, Conv2d) and getattr(module, "norm", None) is not None
    ]
    with torch.no_grad():
        network(images)
    for hook in hooks:
        hook.remove()
    return {key: value.numpy() for key, value in network.state_dict().items()}


def start_of(deep, shallow, images, tmp_path, damp: bool = True, monkeypatch=None):
    """A deep bottom-up network started from the weights of a shallower one, matched by name."""
    torch.manual_seed(0)
    np.savez(tmp_path / "start.npz", **normalised(shallow, images))
    if not damp:
        monkeypatch.setattr("maskseg.models.checkpoint.damp_new_blocks", lambda *_: [])
    Checkpointer(deep).load(str(tmp_path / "start.npz"))
    return deep


DEEPER = [(50, 101), (50, 152), (18, 34)]


@pytest.mark.slow
@pytest.mark.parametrize(("few", "many"), DEEPER)
@pytest.mark.parametrize("affine", [True, False])
def test_features_keep_their_size_through_the_new_blocks(few, many, affine, images, tmp_path):
    depth = lambda value: ("MODEL.RESNETS.DEPTH", str(value), "MODEL.RESNETS.TRAIN_AFFINE", str(affine))  # noqa: E731
    res2 = ("MODEL.RESNETS.RES2_OUT_CHANNELS", "64") if few == 18 else ()
    deep, shallow = (bottom_up(config("nuclei_R_101_FPN", *depth(value), *res2)) for value in (many, few))
    old, new = set(blocks(shallow)), set(blocks(deep))
    rms = rms_of_blocks(start_of(deep, shallow, images, tmp_path), images)
    added = [name for name in blocks(deep) if name in new - old]
    assert added
    for name in added:
        stage = name.partition(".")[0]
        before = rms[f"{stage}.{max(int(other.split('.')[1]) for other in old if other.startswith(stage))}"]
        assert before / 3 < rms[name] < before * 3, (name, rms[name], before)
        assert all(value.requires_grad for value in blocks(deep)[name].parameters())


@pytest.mark.slow
def test_features_keep_their_size_through_the_new_blocks_of_a_preactivation_resnet(images, tmp_path):
    deep, shallow = (bottom_up(config("nuclei_R_101_v2_FPN", "MODEL.RESNETS.DEPTH", depth)) for depth in ("101", "50"))
    Checkpointer(shallow).resume_or_load("", resume=False)
    np.savez(tmp_path / "start.npz", **{key: value.numpy() for key, value in shallow.state_dict().items()})
    Checkpointer(deep).load(str(tmp_path / "start.npz"))
    rms = rms_of_blocks(deep, images)
    assert rms["res4.5"] / 3 < rms["res4.22"] < rms["res4.5"] * 3
    # Without it they would not.
    torch.manual_seed(0)
    plain = rms_of_blocks(bottom_up(config("nuclei_R_101_v2_FPN")), images)
    assert plain["res4.22"] > plain["res4.5"] * 3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuclei_R_101_FPN", "nuclei_R_101_v2_FPN", "nuclei_R_18_FPN"])
def test_a_start_from_nothing_keeps_the_size_of_features_too(name, images):
    torch.manual_seed(0)
    network = bottom_up(config(name))
    Checkpointer(network).resume_or_load("", resume=False)
    rms = list(rms_of_blocks(network, images).values())
    assert max(rms) < 20 * min(rms)


def test_what_was_loaded_is_left_as_it_is():
    torch.manual_seed(0)
    network = bottom_up(config("nuclei_R_101_FPN", "MODEL.RESNETS.DEPTH", "50"))
    before = {key: value.clone() for key, value in network.state_dict().items()}
    missing = {key for key in before if key.startswith("res4.3")}
    assert damp_new_blocks(network, missing) == ["res4.3"]
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed == {"res4.3.conv3.norm.weight"}


def test_gamma_and_beta_are_trained_where_the_config_says_so_and_statistics_never():
    for affine, kind in ((True, TrainedAffine), (False, FrozenBatchNorm2d)):
        network = bottom_up(
            config("nuclei_R_101_FPN", "MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.TRAIN_AFFINE", str(affine))
        )
        norms = [module for module in network.modules() if isinstance(module, FrozenBatchNorm2d)]
        assert {type(norm) for norm in norms} == {kind}
        trained = {name.split(".")[-1] for name, _ in norms[0].named_parameters()}
        assert trained == ({"weight", "bias"} if affine else set())
    # The same numbers, and gradients of gamma as autograd has them of a plain formula.
    norm = TrainedAffine(3)
    norm.load_state_dict({"weight": torch.tensor([1.0, 2, 3]), "bias": torch.ones(3), "running_mean": torch.ones(3),
                          "running_var": torch.full((3,), 4.0)})  # fmt: skip
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    out = norm(x)
    expected = (x - 1) / (4 + norm.eps) ** 0.5 * norm.weight[None, :, None, None] + 1
    torch.testing.assert_close(out, expected)
    out.sum().backward()
    torch.testing.assert_close(norm.weight.grad, ((x - 1) / (4 + norm.eps) ** 0.5).sum((0, 2, 3)), atol=1e-5, rtol=1e-4)
    assert not isinstance(norm.running_mean, torch.nn.Parameter)


def test_frozen_stages_keep_frozen_norms():
    network = bottom_up(config("nuclei_R_101_FPN", "MODEL.RESNETS.DEPTH", "50", "MODEL.BACKBONE.FREEZE_AT", "2"))
    kinds = {name.split(".")[0]: type(module) for name, module in network.named_modules() if "norm" in name}
    assert kinds["stem"] is kinds["res2"] is FrozenBatchNorm2d
    assert kinds["res3"] is kinds["res5"] is TrainedAffine


@pytest.mark.slow
@pytest.mark.parametrize("start", ["R-50", "nothing"])
def test_the_reference_itself_starts_at_a_small_loss_and_learns(start, repository, dataset, images, tmp_path):
    """The exact config but for the number and the size of the images, and of the boxes that are sampled in each.

    First loss under 10, and lower after 20.
    """
    weights = ""
    if start == "R-50":
        shallow = build_model(load_config("nuclei_R_101_FPN", ["MODEL.DEVICE", "cpu", "MODEL.RESNETS.DEPTH", "50"]))
        weights = str(tmp_path / "R-50.npz")
        np.savez(weights, **normalised(shallow.backbone.bottom_up.eval(), images * 64))
    cfg = load_config(
        "nuclei_R_101_FPN",
        [
            "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", weights, "DATASETS.TRAIN", f"('{dataset}:train',)", "DATASETS.TEST",
            "()", "SOLVER.MAX_ITER", "20", "SOLVER.STEPS", "()", "OUTPUT_DIR", str(tmp_path / "run"),
            "INPUT.LONG_SIDE", "128", "INPUT.AUG.WINDOW", "128", "SOLVER.CHECKPOINT_PERIOD", "1000",
            "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "32", "DATALOADER.NUM_WORKERS", "0",
        ],
    )  # fmt: skip
    trainer = Trainer(cfg)
    trainer.resume_or_load(False)
    trainer.train()
    losses = [value for value, _ in trainer.storage.history("total_loss").values()]
    assert losses[0] < 10
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
