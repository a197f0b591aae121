"""Every config key that maskseg adds to Detectron2's, in one place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import YAMLError

from maskseg.core.errors import InputError
from maskseg.formats.classes import NUCLEUS
from maskseg.imaging.exposure import fixed_limits
from maskseg.imaging.stains import COLOUR, DENSITY, EITHER
from maskseg.models.config_checks import check_config, check_together
from maskseg.models.config_files import config_path, load_yaml, parse_yaml, with_decimals

if TYPE_CHECKING:
    from detectron2.config import CfgNode

_CHOICES = {
    "INPUT.AUG.BORDER": ("constant", "reflect"),
    "INPUT.AUG.SCALE_DRAW": ("log", "uniform"),
    "TEST.KEEP_BEST": ("score", "loss"),
    "INPUT.STAINED": (COLOUR, DENSITY, EITHER),
    "INPUT.FORMAT": ("RGB", "BGR"),
    "MODEL.CLASS_LOSS": ("bce", "focal"),
    "POSTPROCESS.FRAGMENTS": ("drop", "keep_largest"),
    "POSTPROCESS.INSTANCES": ("components", "watershed", "largest"),
    "POSTPROCESS.TTA": ("none", "flip", "d4"),
    "POSTPROCESS.TTA_MERGE": ("auto", "union", "average"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", "norm", "full_model"),
    "SOLVER.OPTIMIZER": ("SGD", "Adam", "AdamW"),
    "SOLVER.LR_SCHEDULER_NAME": ("WarmupMultiStepLR", "WarmupCosineLR"),
}
# Networks of the projects, registered when they are imported.
_NETWORKS = ("maskseg.projects.unet.network", "maskseg.projects.protein.network")
# What the config library raises where a file, a key or a value does not fit.
_MISFITS = (
    *(OSError, KeyError, ValueError, TypeError, AttributeError, AssertionError, YAMLError),
    # Of a text that is nested without end.
    *(RecursionError, MemoryError),
)
# Where a training read and wrote: not what the model is, so the config of a model has no say in it.
_PLACES = ("MODEL.WEIGHTS", "OUTPUT_DIR", "DATALOADER.CACHE_DIR")


def add_maskseg_config(cfg: CfgNode) -> None:
    """Add maskseg's keys with their defaults (the published method where it states one)."""
    _add_input(cfg)
    _add_augmentation(cfg)
    _add_training(cfg)
    _add_network(cfg)
    _add_prediction(cfg)


def _add_input(cfg: CfgNode) -> None:
    """What the network sees."""
    # The longer side is scaled to this many pixels, aspect kept, then zero-padded to a square of it.
    cfg.INPUT.LONG_SIDE = 512
    # False: images that are larger already keep their size (small nuclei stay visible); they are padded to the
    # network's stride instead of to the square.
    cfg.INPUT.SHRINK = True
    # Median diameter in network pixels of the nuclei trained on, the median over the images; 0: not known.
    cfg.INPUT.NUCLEUS_DIAMETER = 0.0
    # Side in micrometres of a network pixel in training, where the images said so; 0: not known.
    cfg.INPUT.MPP = 0.0
    # U-Net: height and width to which every image is resized, whatever its aspect; () for the two rules above.
    cfg.INPUT.SIZE = ()
    # auto: each image is mapped linearly by its brightness limits (maskseg.imaging.intensity); off: it is seen as it
    # is; LOW,HIGH: these values of the file become black and white.
    cfg.INPUT.NORMALIZE = "off"
    # How stained tissue is seen: colour, as it is; density, by the red light that it takes away, bright on dark as
    # fluorescence is, which hardly depends on a laboratory's tone of its stains (maskseg.imaging.stains); either: in
    # training by one of the two at random, in prediction in colour unless density finds clearly more.
    cfg.INPUT.STAINED = COLOUR
    # Protein localisation: which of red, green, blue, yellow the network sees.
    cfg.INPUT.CHANNELS = ["red", "green", "blue", "yellow"]


def _add_augmentation(cfg: CfgNode) -> None:
    """Augmentation of the training samples, all of it one affine warp."""
    from detectron2.config import CfgNode as Node

    cfg.INPUT.AUG = Node()
    # Side of the square training sample in network pixels; parts of a larger image are cut at a random place.
    cfg.INPUT.AUG.WINDOW = 512
    # Probability that a square of CROP_SIZE source pixels of a bigger image is taken in place of the whole image.
    cfg.INPUT.AUG.CROP_PROB = 0.5
    cfg.INPUT.AUG.CROP_SIZE = 256
    # Random magnification between these two, uniform in its logarithm (log) or in itself (uniform).
    cfg.INPUT.AUG.SCALE = [0.5, 2.0]
    cfg.INPUT.AUG.SCALE_DRAW = "log"
    # Random rotation in degrees to either side.
    cfg.INPUT.AUG.ROTATE = 15.0
    # Probability that an image is magnified and rotated, both together.
    cfg.INPUT.AUG.AFFINE_PROB = 1.0
    # What lies outside of the image: black (constant), or its mirror image (reflect).
    cfg.INPUT.AUG.BORDER = "constant"
    # Mirror left-right and up-down, each with probability 1/2.
    cfg.INPUT.AUG.FLIP = True
    # Turn by a random multiple of 90 degrees.
    cfg.INPUT.AUG.QUARTER_TURNS = True
    # Random contrast (gain), brightness (share of the range) and gamma; 0 is off.
    cfg.INPUT.AUG.CONTRAST = 0.0
    cfg.INPUT.AUG.BRIGHTNESS = 0.0
    cfg.INPUT.AUG.GAMMA = 0.0
    # Random strength of each stain in pictures with colour: factors of 1 - STAIN to 1 + STAIN; 0 is off.
    cfg.INPUT.AUG.STAIN = 0.0
    # Probability of the noise of a camera, of random strength (maskseg.training.noise).
    cfg.INPUT.AUG.NOISE = 0.0
    # Probability that a sample is a made-up picture without nuclei (maskseg.training.negatives) in place of an image.
    cfg.INPUT.AUG.NEGATIVES = 0.0
    # A nucleus of which fewer network pixels than this are left in the sample is not a target.
    cfg.INPUT.AUG.MIN_PIXELS = 16


def _add_training(cfg: CfgNode) -> None:
    """Data, schedule and choice of the weights in training."""
    # Share of the draws that each data set of DATASETS.TRAIN gets, in any unit, (3, 1) for instance, by which mosaics
    # and images from elsewhere are mixed in; without any, every image counts alike.
    cfg.DATASETS.TRAIN_SHARES = ()
    # Classes that are taken for one, "NEW=OLD,OLD" each, or "all".
    cfg.DATASETS.MERGE_CLASSES = ()
    # Images are drawn with a weight of (images of the same modality) ** -MODALITY_BALANCE; 0 draws each once an epoch.
    cfg.DATALOADER.MODALITY_BALANCE = 0.0
    # Decoded images are kept in a file for temporary files, shared by all workers, up to this many megabytes; 0 is off.
    cfg.DATALOADER.CACHE_MB = 1024
    # A folder in which that file stays, so that a later training on the same images has them at once; "" is nowhere.
    cfg.DATALOADER.CACHE_DIR = ""
    # Each epoch takes a random share of the images, uniform between these two; 1, 1 takes them all.
    cfg.DATALOADER.EPOCH_SHARE = [1.0, 1.0]
    # SGD | Adam | AdamW; the latter two with the largest second moment seen so far in place of the present one (Reddi
    # et al. 2018). CLIP_GRADIENTS.CLIP_TYPE is also "full_model": the norm of all gradients together.
    cfg.SOLVER.OPTIMIZER = "Adam"
    cfg.SOLVER.AMSGRAD = False
    # Share of BASE_LR that a fine-tuning begins with. BASE_LR stays that of the model, so that to train on what was
    # fine-tuned is no slower.
    cfg.SOLVER.LR_SHARE = 1.0
    # Passes over the images, to which the whole schedule is scaled: MAX_ITER, STEPS, WARMUP_ITERS and TEST.EVAL_PERIOD
    # then only say in what proportion; 0: the schedule is as it stands.
    cfg.SOLVER.EPOCHS = 0
    # Validation loss and score are computed over DATASETS.TEST every TEST.EVAL_PERIOD iterations; model_best.pth has
    # the weights of the best score, or of the least loss.
    cfg.TEST.KEEP_BEST = "score"


def _add_network(cfg: CfgNode) -> None:
    """The network."""
    from detectron2.config import CfgNode as Node

    # Loss of a classifier, bce (binary cross-entropy) or focal, and for bce the exponent of (images without a class) /
    # (images with it), the weight of the images that have it; 0 is no weight.
    cfg.MODEL.CLASS_LOSS = "bce"
    cfg.MODEL.CLASS_BALANCE = 0.5
    # What the classes of nuclei are called that Mask R-CNN tells apart, by their numbers; none: as the data sets call
    # them, where these have several. ROI_HEADS.NUM_CLASSES follows from it.
    cfg.MODEL.CLASS_NAMES = []
    # Scale and shift of the ResNet's frozen batch norms (gamma and beta) are trained, their statistics are not.
    cfg.MODEL.RESNETS.TRAIN_AFFINE = False
    # Both box losses are means over the coordinates of the positives; False: sums over them divided by all that were
    # sampled, as in Detectron2.
    cfg.MODEL.BOX_LOSS_MEAN = False
    # Most negative ROIs for each positive one in training; 0 is no limit.
    cfg.MODEL.ROI_HEADS.NEGATIVES_PER_POSITIVE = 0.0
    # In training, most anchors of all levels together that go into the suppression; 0: RPN.PRE_NMS_TOPK_TRAIN a level.
    cfg.MODEL.RPN.PRE_NMS_TOPK_ALL = 0
    # Levels that the FPN adds above its last one by pooling (Detectron2's own backbone adds one, to p5 only).
    cfg.MODEL.FPN.EXTRA_LEVELS = 1
    # Prediction in half precision where the hardware computes in it: convolutions in bfloat16 on a CPU (two thirds of
    # the time), in float16 on a GPU of NVIDIA.
    cfg.MODEL.BFLOAT16 = True
    # U-Net: channels of its levels, the finest first, times the rate; Detectron2's name of the normalisation; loss.
    cfg.MODEL.UNET = Node()
    cfg.MODEL.UNET.CHANNELS = [32, 64, 128, 256, 512]
    cfg.MODEL.UNET.CHANNEL_RATE = 1.0
    cfg.MODEL.UNET.NORM = "BN"
    cfg.MODEL.UNET.LOSS = "bce"

    # At prediction every proposal of this objectness or more is kept; RPN.PRE_NMS_TOPK_TEST and POST_NMS_TOPK_TEST are
    # the least that an image gets, not a limit. TEST.DETECTIONS_PER_IMAGE -1 is no limit either.
    cfg.MODEL.RPN.SURE = 0.2
    # Of two proposals of more IoU than this the less sure one goes, whatever their levels; NMS_THRESH is that of the
    # training, in each level.
    cfg.MODEL.RPN.NMS_THRESH_TEST = 0.6


def _add_prediction(cfg: CfgNode) -> None:
    """Prediction, and what becomes of its masks."""
    from detectron2.config import CfgNode as Node

    # Images of equal size that go through the network at once; 0: eight on a GPU and one on a CPU, which gains nothing.
    cfg.TEST.IMS_PER_BATCH = 0
    cfg.POSTPROCESS = Node()
    # A pixel belongs to a nucleus if its mask probability reaches this.
    cfg.POSTPROCESS.MASK_THRESHOLD = 0.35
    # Views of an image whose masks are merged: none, flip (left to right), d4 (all eight symmetries of the square).
    cfg.POSTPROCESS.TTA = "flip"
    # Union of each mask and its best partners, average of their probabilities, or auto: union of two views, average of
    # more.
    cfg.POSTPROCESS.TTA_MERGE = "auto"
    # A partner in another view has more mask IoU than this; a mask without partners in half of them is dropped.
    cfg.POSTPROCESS.TTA_MIN_IOU = 0.1
    # Median diameter of the nuclei, where it is known: in image pixels, or in micrometres for images that say how large
    # their pixels are; 0: by INPUT.MPP for such images, and for others estimated from what is found at first.
    cfg.POSTPROCESS.DIAMETER = 0.0
    cfg.POSTPROCESS.DIAMETER_MICRONS = 0.0
    # Where the median diameter found lies outside of this range times INPUT.NUCLEUS_DIAMETER, the image is magnified or
    # shrunk so that the two are equal, and predicted again. Empty: never.
    cfg.POSTPROCESS.RESCALE = []
    # If nothing is found, try once more on a canvas this many times as wide and high; 1 is off.
    cfg.POSTPROCESS.RETRY_CANVAS = 4
    # Fill holes; close (dilate, erode) with a 3x3 cross.
    cfg.POSTPROCESS.FILL_HOLES = True
    cfg.POSTPROCESS.CLOSE = True
    # What happens to a mask that falls into pieces: drop (the published code), keep_largest (the published text).
    cfg.POSTPROCESS.FRAGMENTS = "drop"
    # Masks of fewer pixels are dropped at the end.
    cfg.POSTPROCESS.MIN_AREA = 10
    # U-Net: instances are connected components, the largest of them alone or, by watershed, split at necks narrower
    # than NECK times the nucleus.
    cfg.POSTPROCESS.INSTANCES = "watershed"
    cfg.POSTPROCESS.NECK = 0.9


def set_classes(cfg: CfgNode, names: Sequence[str]) -> None:
    """Let Mask R-CNN tell classes of these names apart, in place.

    Boxes and masks of several are drawn by the same weights, so that only the last layer depends on their number. Heads
    of Detectron2 become those of maskseg, of the same weights, which know several classes and what was reviewed.
    """
    if cfg.MODEL.ROI_HEADS.NAME == "StandardROIHeads":
        cfg.MODEL.ROI_HEADS.NAME = "NucleiROIHeads"
    if cfg.MODEL.PROPOSAL_GENERATOR.NAME == "RPN":
        cfg.MODEL.PROPOSAL_GENERATOR.NAME = "NucleiRPN"
    cfg.MODEL.CLASS_NAMES = [] if tuple(names) == (NUCLEUS,) else list(names)
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(names)
    if len(names) > 1:
        cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = cfg.MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK = True


def load_config(
    config_file: str | Path, overrides: list[str] | None = None, settings: Path | None = None, *, of_model: bool = False
) -> CfgNode:
    """Detectron2's defaults, maskseg's keys, the YAML file with its ``_BASE_``, then ``KEY VALUE`` overrides.

    The keys of a second file, `settings`, come between the two. `of_model`: the config of somebody's model, which says
    nothing of folders and files.

    Raises
    ------
    InputError
        If the file is missing, or a key or value does not fit.
    """
    from detectron2.config import CfgNode as Node

    cfg = default_config()
    for path in (config_path(config_file), *([settings] if settings else [])):
        try:
            cfg.merge_from_other_cfg(Node(with_decimals(_upgraded(load_yaml(path), of_model), cfg)))
        except _MISFITS as error:
            raise InputError(f"{path}: {_one_line(error)}; compare with configs/Base-nuclei.yaml") from error
    return with_overrides(cfg, overrides)


def default_config(text: str = "", overrides: list[str] | None = None, source: str | Path = "") -> CfgNode:
    """Detectron2's defaults with maskseg's keys, a YAML text over them, then ``KEY VALUE`` overrides.

    `source` is the model that holds the text, for the error message.

    Raises
    ------
    InputError
        If a key or value does not fit.
    """
    from detectron2.config import CfgNode as Node

    from maskseg.models import backbones, proposals, resnet_v2, roi_heads  # noqa: F401  registers what configs name

    cfg = _defaults()
    if text:
        try:
            cfg.merge_from_other_cfg(Node(with_decimals(_upgraded(parse_yaml(text), bool(source)), cfg)))
        except _MISFITS as error:
            raise InputError(f"{source}: the config in it does not fit: {_one_line(error)}; upgrade maskseg") from error
    return with_overrides(cfg, overrides)


def _defaults() -> CfgNode:
    from detectron2.config import get_cfg

    from maskseg.models import tasks

    cfg = get_cfg()
    add_maskseg_config(cfg)
    tasks.prepare(cfg)
    return cfg


def _upgraded(keys: Any, of_model: bool = False) -> Any:
    """The content of a config file with keys of earlier versions under their present names."""
    for key in _PLACES if of_model else ():
        section, _, name = key.rpartition(".")
        part = keys.get(section) if section and isinstance(keys, dict) else keys
        if isinstance(part, dict):
            part.pop(name, None)
    rules = keys.get("POSTPROCESS") if isinstance(keys, dict) else None
    if isinstance(rules, dict):
        if "FLIP" in rules:
            rules["TTA"] = "flip" if rules.pop("FLIP") else "none"
        if "FLIP_MIN_IOU" in rules:
            rules["TTA_MIN_IOU"] = rules.pop("FLIP_MIN_IOU")
    inputs = keys.get("INPUT") if isinstance(keys, dict) else None
    if isinstance(inputs, dict) and "STRETCH" in inputs:
        inputs["NORMALIZE"] = "auto" if inputs.pop("STRETCH") else "off"
    if isinstance(inputs, dict) and "NORMALIZE" in inputs:
        inputs["NORMALIZE"] = _quoted(inputs["NORMALIZE"])
    return keys


def _as_typed(cfg: CfgNode, pair: list[str]) -> list[str]:
    """KEY VALUE as yacs takes it: limits as text, a whole number for a key of a decimal one with its point."""
    key, *value = pair
    if key == "INPUT.NORMALIZE" and value:
        return [key, _quoted(value[0])]
    node: Any = cfg
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    if isinstance(node, float) and value and re.fullmatch(r"[-+]?\d+", value[0]):
        return [key, f"{value[0]}.0"]
    return pair


def with_overrides(cfg: CfgNode, overrides: list[str] | None) -> CfgNode:
    """Change a config in place by ``KEY VALUE`` overrides, and check that its values are ones that maskseg knows.

    Raises
    ------
    InputError
        If a key or value does not fit.
    """
    overrides = overrides or []
    if "SOLVER.MAX_ITER" in overrides[::2]:
        # What is asked for has the last word over what the config says.
        cfg.SOLVER.EPOCHS = 0
    # One by one, so that the message can name the one at fault.
    for pair in (overrides[at : at + 2] for at in range(0, len(overrides), 2)):
        try:
            cfg.merge_from_list(_as_typed(cfg, pair))
        except _MISFITS as error:
            raise InputError(f"{' '.join(pair)}: {_one_line(error)}; give KEY VALUE pairs") from error
    check_config(cfg, _defaults(), overrides[::2])
    if "SOLVER.MAX_ITER" in overrides[::2] and cfg.SOLVER.EPOCHS:
        raise InputError("SOLVER.MAX_ITER and SOLVER.EPOCHS both say how long to train; give one of them")
    for key, choices in _CHOICES.items():
        *sections, name = key.split(".")
        node = cfg
        for section in sections:
            node = node[section]
        if node[name] not in choices:
            raise InputError(f"{key} is {node[name]!r}; choose one of {', '.join(choices)}")
    check_together(cfg)
    size, stride = cfg.INPUT.SIZE, 2 ** (len(cfg.MODEL.UNET.CHANNELS) - 1)
    if size:
        if len(size) != 2 or min(size) < 1 or any(side % stride for side in size):
            raise InputError(f"INPUT.SIZE is {size}; give height and width, multiples of {stride}")
        if "INPUT.LONG_SIDE" in overrides[::2]:
            raise InputError(f"INPUT.LONG_SIDE: images have the INPUT.SIZE {size}, whatever their aspect; change that")
        # Training samples are warped in a square around it.
        cfg.INPUT.LONG_SIDE = cfg.INPUT.AUG.WINDOW = max(size)
    return cfg


def _quoted(value: Any) -> str:
    """INPUT.NORMALIZE in quotes: ``off`` is no False and ``100,4000`` no pair of numbers, whatever read them."""
    if isinstance(value, (list, tuple)):
        value = ",".join(map(str, value))
    text = "off" if value is False else str(value).strip("'\"")
    fixed_limits(text)
    return repr(text)


def _one_line(error: Exception) -> str:
    if isinstance(error, (TypeError, AttributeError)):
        return "not keys with values in sections"
    # A KeyError puts its message in quotes.
    text = " ".join(str(error.args[0] if isinstance(error, KeyError) else error).split())
    # A whole section of the wrong type would be printed before its name.
    return text if len(text) < 300 else f"{text[:140]} ... {text[-140:]}"


def to_device(cfg: CfgNode) -> None:
    """Fall back to the CPU where the config asks for a GPU that is not there."""
    import torch

    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
