"""What the values of a config may be: of the type of their defaults, finite, and of a size that makes sense.

Detectron2 compares the types of single values with those of its defaults, and neither the items of lists nor sizes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError
from maskseg.imaging.stains import COLOUR, DENSITY, EITHER
from maskseg.models.downloads import PUBLISHED, is_address

if TYPE_CHECKING:
    from detectron2.config import CfgNode

# Of any list and text; those of data sets may be longer.
_MOST_ITEMS, _MOST_DATASETS, _LONGEST = 256, 10_000, 4096
# Of any number that has no narrower limits.
_GREATEST_INT, _GREATEST_FLOAT = 2**31 - 1, 1e9
_SHARE, _SIDE, _CHANNELS, _COUNT = (0, 1), (1, 8192), (1, 4096), (0, 1_000_000)
# Least and greatest of a number, or of each in a list. A name that begins with a dot stands for all keys that end so.
_LIMITS: dict[str, tuple[float, float]] = {
    "INPUT.LONG_SIDE": _SIDE,
    # What is too small is refused with the multiples that the network takes.
    "INPUT.SIZE": (0, _SIDE[1]),
    "INPUT.NUCLEUS_DIAMETER": (0, 10_000),
    "INPUT.MPP": (0, 10_000),
    "INPUT.AUG.WINDOW": _SIDE,
    "INPUT.AUG.CROP_SIZE": _SIDE,
    "INPUT.AUG.CROP_PROB": _SHARE,
    "INPUT.AUG.SCALE": (0, 1000),
    "INPUT.AUG.ROTATE": (0, 360),
    "INPUT.AUG.CONTRAST": (0, 10),
    "INPUT.AUG.BRIGHTNESS": (0, 10),
    "INPUT.AUG.GAMMA": (0, 10),
    "INPUT.AUG.STAIN": (0, 1),
    "INPUT.AUG.NOISE": _SHARE,
    "INPUT.AUG.NEGATIVES": _SHARE,
    "INPUT.AUG.MIN_PIXELS": _COUNT,
    "DATASETS.TRAIN_SHARES": (0, 1e9),
    "DATALOADER.NUM_WORKERS": (0, 256),
    "DATALOADER.CACHE_MB": (0, 100_000_000),
    "DATALOADER.MODALITY_BALANCE": (0, 10),
    "MODEL.PIXEL_STD": (1e-6, 1e6),
    "MODEL.PIXEL_MEAN": (-1e6, 1e6),
    "MODEL.BACKBONE.FREEZE_AT": (0, 10),
    "MODEL.CLASS_BALANCE": (0, 10),
    "MODEL.FPN.OUT_CHANNELS": _CHANNELS,
    "MODEL.FPN.EXTRA_LEVELS": (0, 6),
    "MODEL.PROPOSAL_GENERATOR.MIN_SIZE": (0, 8192),
    "MODEL.ANCHOR_GENERATOR.SIZES": (0.1, 100_000),
    "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS": (0.001, 1000),
    "MODEL.ANCHOR_GENERATOR.OFFSET": _SHARE,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": _COUNT,
    "MODEL.RPN.POST_NMS_TOPK_TEST": _COUNT,
    "MODEL.RPN.CONV_DIMS": (-1, 4096),
    "MODEL.ROI_HEADS.NUM_CLASSES": (1, 10_000),
    "MODEL.RESNETS.NUM_GROUPS": (1, 256),
    "MODEL.RESNETS.WIDTH_PER_GROUP": (1, 1024),
    "MODEL.RESNETS.RES2_OUT_CHANNELS": (1, 2048),
    "MODEL.RESNETS.STEM_OUT_CHANNELS": (1, 1024),
    "MODEL.RESNETS.RES5_DILATION": (1, 2),
    "MODEL.UNET.CHANNELS": _CHANNELS,
    "MODEL.UNET.CHANNEL_RATE": (0.001, 16),
    "SOLVER.MAX_ITER": (1, 1_000_000_000),
    "SOLVER.EPOCHS": _COUNT,
    "SOLVER.STEPS": (0, 1_000_000_000),
    "SOLVER.WARMUP_ITERS": (0, 1_000_000_000),
    "SOLVER.IMS_PER_BATCH": (1, 65_536),
    "SOLVER.BASE_LR": (0, 1000),
    "SOLVER.LR_SHARE": _SHARE,
    "TEST.DETECTIONS_PER_IMAGE": (-1, 1_000_000),
    "TEST.IMS_PER_BATCH": (0, 1024),
    "POSTPROCESS.MASK_THRESHOLD": _SHARE,
    "POSTPROCESS.TTA_MIN_IOU": _SHARE,
    "POSTPROCESS.DIAMETER": (0, 10_000),
    "POSTPROCESS.DIAMETER_MICRONS": (0, 10_000),
    "POSTPROCESS.RESCALE": (0, 1000),
    "POSTPROCESS.RETRY_CANVAS": (1, 16),
    "POSTPROCESS.MIN_AREA": (0, 1_000_000_000),
    "POSTPROCESS.NECK": (0, 10),
    ".BATCH_SIZE_PER_IMAGE": (1, 100_000),
    ".POSITIVE_FRACTION": _SHARE,
    ".IOU_THRESHOLDS": _SHARE,
    ".NMS_THRESH": _SHARE,
    ".NMS_THRESH_TEST": _SHARE,
    ".SCORE_THRESH_TEST": _SHARE,
    ".POOLER_RESOLUTION": (1, 64),
    ".POOLER_SAMPLING_RATIO": (0, 16),
    ".NUM_FC": (0, 16),
    ".FC_DIM": (1, 16_384),
    ".NUM_CONV": (0, 32),
    ".CONV_DIM": _CHANNELS,
}
# Lists of names that are empty by default.
_NAMES = ("DATASETS.TRAIN", "DATASETS.TEST", "MODEL.FPN.IN_FEATURES", "MODEL.CLASS_NAMES", "DATASETS.MERGE_CLASSES")
_NORMS = ("", "BN", "SyncBN", "FrozenBN", "GN", "nnSyncBN", "naiveSyncBN", "LN")
_DEPTHS = (18, 34, 50, 101, 152)
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:[0-9]{1,2})?")
# Weights of the first layer of the box head, the largest of any head.
_LARGEST_LAYER = 1 << 28


def check_config(cfg: CfgNode, default: CfgNode, typed: list[str]) -> None:
    """Compare every value with its default's type and with its limits.

    Parameters
    ----------
    cfg, default : CfgNode
        With the same keys.
    typed : list of str
        Keys that the user gave himself: only so may weights come from any address.

    Raises
    ------
    InputError
        Naming the first key at fault.
    """
    for key, value, usual in _leaves(cfg, default):
        _check_value(key, value, usual)
    weights = cfg.MODEL.WEIGHTS
    if is_address(weights) and weights not in PUBLISHED and "MODEL.WEIGHTS" not in typed:
        raise InputError(
            f"MODEL.WEIGHTS is the address {weights[:200]!r} in a file: nothing is downloaded because a file says so; "
            "give MODEL.WEIGHTS with the command, or set it to a file that is here"
        )
    if not _DEVICE.fullmatch(cfg.MODEL.DEVICE):
        raise InputError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE[:40]!r}; choose cpu or cuda")
    if cfg.MODEL.RESNETS.DEPTH not in _DEPTHS:
        raise InputError(f"MODEL.RESNETS.DEPTH is {cfg.MODEL.RESNETS.DEPTH}; choose one of {_DEPTHS}")
    _check_names(cfg)
    if not 0 < cfg.MODEL.RPN.SURE <= 1:
        raise InputError(f"MODEL.RPN.SURE is {cfg.MODEL.RPN.SURE}; give an objectness over 0, at most 1")
    if cfg.POSTPROCESS.DIAMETER and cfg.POSTPROCESS.DIAMETER_MICRONS:
        raise InputError("POSTPROCESS.DIAMETER and POSTPROCESS.DIAMETER_MICRONS are both given; give one of them")
    box = cfg.MODEL.ROI_BOX_HEAD
    if cfg.MODEL.FPN.OUT_CHANNELS * box.POOLER_RESOLUTION**2 * box.FC_DIM > _LARGEST_LAYER:
        raise InputError(
            f"MODEL.ROI_BOX_HEAD: {box.FC_DIM} values from {cfg.MODEL.FPN.OUT_CHANNELS} channels of "
            f"{box.POOLER_RESOLUTION} x {box.POOLER_RESOLUTION} are too many weights; make FC_DIM smaller"
        )


def _leaves(cfg: CfgNode, default: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    for name, usual in default.items():
        if isinstance(usual, dict):
            yield from _leaves(cfg[name], usual, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", cfg[name], usual


def _check_value(key: str, value: Any, usual: Any) -> None:
    if value is None and usual is not None:
        raise InputError(f"{key} is empty; give a value such as {usual!r}")
    if isinstance(value, (list, tuple)):
        most = _MOST_DATASETS if key.startswith("DATASETS.") else _MOST_ITEMS
        items = list(_items(key, value, most))
        if len(items) > most:
            raise InputError(f"{key} is a list of {len(items)} values; give {most} at most")
        text = _holds_text(key, usual, most)
        for item in items:
            if item is None or (text is not None and isinstance(item, str) != text):
                raise InputError(f"{key} holds {_short(item)}; give {'names' if text else 'numbers'}")
            _check_one(key, item)
        return
    if isinstance(usual, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value) if abs(value) < _GREATEST_FLOAT else math.inf
    alike = usual is None or isinstance(value, type(usual))
    if not alike or isinstance(value, bool) != isinstance(usual, bool):
        raise InputError(f"{key} is {_short(value)}; give a value such as {usual!r}")
    _check_one(key, value)


def _holds_text(key: str, usual: Any, most: int) -> bool | None:
    """Whether a list holds names, not numbers; None where its default does not tell."""
    kinds = {type(item) for item in _items(key, usual, most)} if isinstance(usual, (list, tuple)) else set()
    if not kinds and (key in _LIMITS or key in _NAMES):
        return key in _NAMES
    return str in kinds if kinds else None


def _items(key: str, value: Any, most: int, depth: int = 0) -> Iterator[Any]:
    """What is in a list and in the lists in it."""
    for item in value:
        if isinstance(item, (list, tuple)):
            if depth == 2:
                raise InputError(f"{key} holds lists in lists in lists; give fewer")
            yield from _items(key, item, most, depth + 1)
        else:
            yield item


def _check_one(key: str, value: Any) -> None:
    """A single value: a number within its limits, or a text of one line."""
    if isinstance(value, str):
        if len(value) > _LONGEST or not value.isprintable():
            raise InputError(f"{key} is a text of {len(value)} characters; give one line of at most {_LONGEST}")
        return
    if value is None or isinstance(value, bool):
        return
    if not isinstance(value, (int, float)):
        raise InputError(f"{key} holds a {type(value).__name__}; give numbers or text")
    widest = _GREATEST_INT if isinstance(value, int) else _GREATEST_FLOAT
    least, greatest = _LIMITS.get(key) or _LIMITS.get(f".{key.rpartition('.')[2]}") or (-widest, widest)
    if not least <= value <= greatest:  # nor is NaN
        raise InputError(f"{key} is {_short(value)}; give {least:g} to {greatest:g}")


def _check_names(cfg: CfgNode) -> None:
    """Parts of the network that are named are known."""
    from detectron2.modeling import BACKBONE_REGISTRY, PROPOSAL_GENERATOR_REGISTRY, ROI_HEADS_REGISTRY
    from detectron2.modeling.anchor_generator import ANCHOR_GENERATOR_REGISTRY
    from detectron2.modeling.proposal_generator.rpn import RPN_HEAD_REGISTRY
    from detectron2.modeling.roi_heads import ROI_BOX_HEAD_REGISTRY, ROI_MASK_HEAD_REGISTRY

    model = cfg.MODEL
    for key, name, registry in (
        ("BACKBONE.NAME", model.BACKBONE.NAME, BACKBONE_REGISTRY),
        ("PROPOSAL_GENERATOR.NAME", model.PROPOSAL_GENERATOR.NAME, PROPOSAL_GENERATOR_REGISTRY),
        ("ANCHOR_GENERATOR.NAME", model.ANCHOR_GENERATOR.NAME, ANCHOR_GENERATOR_REGISTRY),
        ("RPN.HEAD_NAME", model.RPN.HEAD_NAME, RPN_HEAD_REGISTRY),
        ("ROI_HEADS.NAME", model.ROI_HEADS.NAME, ROI_HEADS_REGISTRY),
        ("ROI_BOX_HEAD.NAME", model.ROI_BOX_HEAD.NAME, ROI_BOX_HEAD_REGISTRY),
        ("ROI_MASK_HEAD.NAME", model.ROI_MASK_HEAD.NAME, ROI_MASK_HEAD_REGISTRY),
    ):
        if name and name not in registry:
            known = ", ".join(sorted(known for known, _ in registry))
            raise InputError(f"MODEL.{key} is {name[:60]!r}; choose one of {known}")
    for part in ("FPN", "RESNETS", "UNET", "ROI_BOX_HEAD", "ROI_MASK_HEAD"):
        if model[part].NORM not in _NORMS:
            raise InputError(f"MODEL.{part}.NORM is {model[part].NORM[:60]!r}; choose one of {', '.join(_NORMS[1:])}")


def _short(value: Any) -> str:
    """A value for a message; a huge number has no digits that could be printed."""
    if isinstance(value, int) and abs(value) > _GREATEST_INT:
        return f"a number of {value.bit_length()} bits"
    if isinstance(value, (list, tuple)):
        return "a list" if any(isinstance(item, (list, tuple)) for item in value) else f"{str(value[:4])[:80]}"
    return repr(value)[:80]


def check_together(cfg: CfgNode) -> None:
    """Refuse values that do not go together: pairs of a least and a greatest that are none, a choice nobody can make.

    Raises
    ------
    InputError
    """
    if cfg.INPUT.STAINED == EITHER and cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN":
        raise InputError(f"INPUT.STAINED is {EITHER}, which is for Mask R-CNN; choose {COLOUR} or {DENSITY}")
    share = cfg.DATALOADER.EPOCH_SHARE
    if len(share) != 2 or not 0 < share[0] <= share[1] <= 1:
        raise InputError(f"DATALOADER.EPOCH_SHARE is {share}; give the least and the greatest, such as [0.5, 1.0]")
    scale = cfg.INPUT.AUG.SCALE
    if len(scale) != 2 or not 0 < scale[0] <= scale[1]:
        raise InputError(f"INPUT.AUG.SCALE is {scale}; give the least and the greatest magnification, such as [0.5, 2]")
    limits = cfg.POSTPROCESS.RESCALE
    if limits and not (len(limits) == 2 and 0 <= limits[0] <= 1 <= limits[1]):
        raise InputError(f"POSTPROCESS.RESCALE is {limits}; give the limits of what is left as it is, such as [0.6, 4]")
