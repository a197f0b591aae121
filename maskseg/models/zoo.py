"""Models by name or file: a training run, a checkpoint with its config, or one file that holds both."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yaml import safe_load

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.models import library
from maskseg.models.checkpoint import checksum, last_checkpoint, model_weights, read_weights
from maskseg.models.config import default_config, load_config

if TYPE_CHECKING:
    from detectron2.config import CfgNode

logger = logging.getLogger(__name__)

# Of the one-file form; raised when an older maskseg could no longer read it rightly.
FORMAT = "maskseg-1"
WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
# In this order of preference inside a training folder.
_CHECKPOINTS = ("model_best.pth", "model_final.pth")
# Beside a checkpoint: the keys that `maskseg tune` chose, laid over config.yaml.
SETTINGS_FILE = "postprocess.yaml"
# Characters of a card that are shown.
_LONGEST_CARD = 100_000


@dataclass(frozen=True)
class Model:
    """A config and the file of the weights that belong to it."""

    cfg: CfgNode
    weights: Path


def bundled() -> dict[str, Path]:
    """Models that come with the package, by name."""
    return {path.stem: path for path in sorted(WEIGHTS.glob("*.safetensors"))}


def add(source: str, name: str | None = None, sha256: str | None = None) -> str:
    """Keep a model under a name; see `maskseg.models.library.add`.

    Raises
    ------
    InputError
        It is no whole model of a config that this version knows, or the name is taken.
    """

    def check(path: Path) -> None:
        embedded_config(path, None)
        # With the checksum that it carries.
        read_weights(path)

    return library.add(source, check, name, sha256, tuple(bundled()))


def card_text(name: str) -> str:
    """What is known of a model, as text for a person: its card, and what its file says of itself.

    Parameters
    ----------
    name : str
        As for `find_model`. The card of ``NAME.safetensors`` is ``NAME.md`` beside it.

    Raises
    ------
    InputError
        There is no such model.
    """
    if name in bundled():
        return (WEIGHTS / "CARD.md").read_text(encoding="utf-8").split("---\n", 2)[2].strip()
    model = find_model(name)
    cfg, values = model.cfg, sum(value.numel() for value in model_weights(model.weights).values())
    size = cfg.INPUT.NUCLEUS_DIAMETER
    lines = {
        "file": str(model.weights),
        "network": f"{cfg.MODEL.META_ARCHITECTURE}, {values / 1e6:.1f} M values",
        "trained on nuclei of": f"{size:g} network pixels across" if size else "unknown size",
        "pixels there": f"{cfg.INPUT.MPP:g} micrometres" if cfg.INPUT.MPP else "of unknown size",
        "brightness": f"INPUT.NORMALIZE {cfg.INPUT.NORMALIZE}",
        "stained tissue": f"INPUT.STAINED {cfg.INPUT.STAINED}",
        "threshold of scores": f"{cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST:g}",
        "views": cfg.POSTPROCESS.TTA,
    }
    itself, beside = "\n".join(f"{key:22s} {value}" for key, value in lines.items()), model.weights.with_suffix(".md")
    if not beside.is_file():
        return itself
    with beside.open(encoding="utf-8", errors="replace") as file:
        text = file.read(_LONGEST_CARD)
    # A terminal obeys some of what is not to be seen.
    return "".join(char for char in text if char.isprintable() or char == "\n").strip() + f"\n\n{itself}"


def card() -> dict[str, Any]:
    """Licence and scores of the bundled models, by name: the YAML at the head of their CARD.md."""
    return safe_load((WEIGHTS / "CARD.md").read_text(encoding="utf-8").split("---\n")[1])


def find_model(name: str | os.PathLike[str], overrides: list[str] | None = None) -> Model:
    """Find a model.

    Parameters
    ----------
    name : str or path
        The name of a bundled model or of one that was added (`maskseg.models.library`), a training folder (its best
        checkpoint is taken; as long as there is none, its last),
        a ``.safetensors`` file made by `export`, or a ``.pth`` with the ``config.yaml`` of its training beside it; a
        ``postprocess.yaml`` beside it, made by ``maskseg tune``, is followed.
    overrides : list of str, optional
        KEY VALUE pairs over the model's own config.

    Raises
    ------
    InputError
        If there is no such model or it is not complete.
    """
    path = bundled().get(str(name), Path(name))
    if str(name) in library.added() and str(name) not in bundled():
        path = library.checked(str(name))
    if path.is_dir():
        checkpoints = [path / checkpoint for checkpoint in _CHECKPOINTS if (path / checkpoint).is_file()]
        if not checkpoints and (path / "last_checkpoint").is_file():
            checkpoints = [last_checkpoint(path)]
            logger.warning("%s: the training is not finished; %s is taken, its last", path, checkpoints[0].name)
        if not checkpoints:
            raise InputError(f"{path}: no {' or '.join(_CHECKPOINTS)} in it; name the folder of a training")
        path = checkpoints[0]
    if not path.is_file():
        names = ", ".join([*bundled(), *library.added()]) or "none"
        raise InputError(f"{name}: no such model; give a training folder, a weight file or a bundled name ({names})")
    if path.suffix == ".safetensors":
        cfg = embedded_config(path, overrides)
    else:
        config = path.parent / "config.yaml"
        if not config.is_file():
            raise InputError(f"{path}: the config.yaml of its training is not beside it; copy it there")
        settings = path.parent / SETTINGS_FILE
        cfg = load_config(config, overrides, settings if settings.is_file() else None, of_model=True)
    return Model(cfg, path)


def embedded_config(path: Path, overrides: list[str] | None) -> CfgNode:
    """The config that a file of `export` carries.

    Raises
    ------
    InputError
        It is none, or of a form that this version does not know.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: not a safetensors file ({' '.join(str(error).split())[:80]}); get it again"
        ) from error
    if metadata.get("format") != FORMAT or "config" not in metadata:
        raise InputError(
            f"{path}: a model of format {metadata.get('format', 'unknown')!r}, not {FORMAT!r}; "
            "export it again or upgrade maskseg"
        )
    if "sha256" not in metadata:
        raise InputError(f"{path}: it carries no checksum; export it again")
    return default_config(metadata["config"], overrides, path)


def export(name: str | os.PathLike[str], out: str | os.PathLike[str], overrides: list[str] | None = None) -> None:
    """Write a model as one file: half-precision weights, config and checksum inside, no pickle.

    Parameters
    ----------
    name : str or path
        As for `find_model`.
    out : path-like
        The ``.safetensors`` file to write.
    overrides : list of str, optional
        KEY VALUE pairs that the file's config shall have, such as thresholds chosen after the training.
    """
    from safetensors.torch import save

    model = find_model(name, overrides)
    cfg = model.cfg.clone()
    cfg.defrost()
    # The paths of the training are private, and do not exist on other machines.
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = "", "."
    cfg.freeze()
    tensors = {key: value.half().contiguous() for key, value in model_weights(model.weights).items()}
    if Path(out).suffix != ".safetensors":
        raise InputError(f"{out}: models are exported as .safetensors; choose such a name")
    metadata = {"format": FORMAT, "config": cfg.dump()}
    metadata["sha256"] = checksum(tensors, metadata)
    with write_whole(out) as file:
        file.write(save(tensors, metadata))
