"""Every value of a config has the type of its default and a size that makes sense; what has not is one line."""

import math

import pytest
import yaml
from safetensors.torch import save_file
from torch import zeros

from maskseg.core.errors import InputError
from maskseg.models import zoo
from maskseg.models.checkpoint import checksum
from maskseg.models.config import _PLACES, default_config, load_config
from maskseg.models.config_checks import _LIMITS, check_config
from maskseg.models.zoo import find_model


def leaves(cfg, prefix=""):
    for name, value in cfg.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def nested(key, value):
    for name in reversed(key.split(".")):
        value = {name: value}
    return value


def model(path, key, value):
    """A file of weights with a config of one key."""
    weights = {"a": zeros(1)}
    metadata = {"format": zoo.FORMAT, "config": yaml.safe_dump(nested(key, value))}
    save_file(weights, path, {**metadata, "sha256": checksum(weights, metadata)})
    return path


KEYS = dict(leaves(default_config()))
HUGE, NAN = 10**9, math.nan
# Of each kind one or more; the schema itself is tested below key by key.
WRONG = [
    *(("INPUT.LONG_SIDE", value) for value in (HUGE, 0, -512, 10**400, None, "512px", 512.5, True, [512])),
    *(("INPUT.AUG.WINDOW", value) for value in (HUGE, 0)),
    *(("INPUT.SIZE", value) for value in ([HUGE, HUGE], [-64, 64], [64.0, NAN], [[64, 64]], ["64", "64"], [None, 64])),
    *(("INPUT.CHANNELS", value) for value in (["red"] * 1000, [1, 2], [["red"]] * 300, [None])),
    *(("POSTPROCESS.MASK_THRESHOLD", value) for value in (NAN, math.inf, -0.1, 1.5, None, "high", [0.5])),
    *(("POSTPROCESS.RETRY_CANVAS", value) for value in (HUGE, 0, -4)),
    *(("POSTPROCESS.MIN_AREA", value) for value in (-1, 10**30, NAN)),
    *(("POSTPROCESS.RESCALE", value) for value in ([NAN, 2.0], [0.5, HUGE], [0.5] * 10_000)),
    ("POSTPROCESS.FILL_HOLES", 2),
    *(("MODEL.ROI_HEADS.SCORE_THRESH_TEST", value) for value in (NAN, 7.0)),
    *(("MODEL.ROI_HEADS.NMS_THRESH_TEST", value) for value in (NAN, -1.0)),
    *(("MODEL.RPN.POST_NMS_TOPK_TEST", value) for value in (HUGE, -1)),
    *(("MODEL.DEVICE", value) for value in ("gpu", "cuda:999", "", "cpu\n", "http://x", None, "meta")),
    *((f"MODEL.{key}", "no_such_thing") for key in ("BACKBONE.NAME", "ROI_HEADS.NAME", "PROPOSAL_GENERATOR.NAME")),
    *((f"MODEL.{key}", "no_such_thing") for key in ("ROI_BOX_HEAD.NAME", "FPN.NORM", "RPN.HEAD_NAME")),
    *(("MODEL.RESNETS.DEPTH", value) for value in (HUGE, 19, -18)),
    ("MODEL.FPN.OUT_CHANNELS", 10**6),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", 10**6),
    ("MODEL.UNET.CHANNELS", [10**6] * 3),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[0.0]]),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [[[[8]]]]),
    ("MODEL.ANCHOR_GENERATOR.SIZES", [list(range(1, 200))] * 2),
    ("MODEL.PIXEL_STD", [0.0, 0.0, 0.0]),
    ("MODEL.PIXEL_MEAN", [NAN]),
    ("DATALOADER.NUM_WORKERS", 10**6),
    ("DATASETS.TRAIN", ["x" * 5000]),
    ("DATASETS.TRAIN", ["data\x1b[2J"]),
    ("SOLVER.BASE_LR", NAN),
    ("SOLVER.BASE_LR", "1e999"),
    ("SEED", 10**30),
    ("NO_SUCH_KEY", 1),
    ("MODEL", 3),
    ("POSTPROCESS", None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("key", "value"), WRONG, ids=lambda item: str(item)[:30])
def test_a_value_that_makes_no_sense_is_one_line_that_names_its_key(tmp_path, key, value):
    path = model(tmp_path / "a.safetensors", key, value)
    with pytest.raises(InputError) as caught:
        find_model(path)
    text = str(caught.value)
    assert "\n" not in text and "\x1b" not in text and len(text) < 800
    assert key.rpartition(".")[2] in text or key == "POSTPROCESS"


@pytest.mark.slow
@pytest.mark.parametrize("key", [key for key in KEYS if key not in _PLACES])
def test_no_key_takes_a_value_of_another_kind(tmp_path, key):
    """Whatever a key is for, NaN, an endless number, a section and a nest of lists are none of its values."""
    usual = KEYS[key]
    for value in (NAN, 10**40, {"a": 1}, [[[[1]]]], ["a", NAN], b"bytes"):
        with pytest.raises(InputError):
            find_model(model(tmp_path / "a.safetensors", key, value))
    if usual is not None:
        with pytest.raises(InputError):
            find_model(model(tmp_path / "a.safetensors", key, None))


def test_every_limit_is_of_a_key_that_there_is():
    for name in _LIMITS:
        assert name in KEYS or (name.startswith(".") and any(key.endswith(name) for key in KEYS)), name


@pytest.mark.slow
def test_the_configs_of_maskseg_keep_to_the_limits(repository):
    for path in (repository / "configs").glob("*.yaml"):
        cfg = load_config(path)
        check_config(cfg, default_config(), [])
        assert default_config(cfg.dump()) == default_config(load_config(path).dump())


def test_a_network_that_cannot_be_built_is_one_line(tmp_path):
    from maskseg.inference.api import load_model

    for key, value in (("MODEL.RPN.IN_FEATURES", ["p99"]), ("MODEL.META_ARCHITECTURE", "NoSuchNet")):
        with pytest.raises(InputError) as caught:
            load_model(model(tmp_path / "a.safetensors", key, value), ["MODEL.DEVICE", "cpu"])
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["nuclei_unet", "ultrasound_unet", "protein_small"])
def test_a_network_that_cannot_choose_how_it_sees_tissue_is_not_asked_to(name):
    load_config(name, ["INPUT.STAINED", "density"])
    with pytest.raises(
        InputError, match=r"INPUT\.STAINED is either, which is for Mask R-CNN; choose colour or density"
    ):
        load_config(name, ["INPUT.STAINED", "either"])
