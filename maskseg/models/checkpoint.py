"""Checkpoints: read without running pickled code, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from iopath.common.file_io import PathManager
from numpy.typing import NDArray

from maskseg.core.array_pickle import load_array_pickle
from maskseg.core.errors import InputError
from maskseg.core.files import remove_leftovers, write_whole
from maskseg.models.downloads import downloaded, is_address
from maskseg.models.starts import damp_new_blocks
from maskseg.models.weight_checks import check_size, check_torch, check_weights, read_arrays

logger = logging.getLogger(__name__)


def read_weights(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a weight file by its ending: ``.pth``, ``.pkl`` (Detectron2's zoo), ``.npz`` or ``.safetensors``.

    Returns
    -------
    dict
        ``"model"`` maps names to tensors or arrays; a training checkpoint has further entries. Half-precision
        arrays come back as float32.

    Raises
    ------
    InputError
        If the file is missing, damaged, of an unknown kind, or holds more than arrays.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weight file; check MODEL.WEIGHTS")
    check_size(path)
    try:
        data = _read(path)
        check_weights(path, data["model"])
    except InputError:
        raise
    except Exception as error:  # each reader has errors of its own; all mean the same here
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable weight file ({reason}); get it again") from error
    return data


def _read(path: Path) -> dict[str, Any]:
    """A weight file by its ending, not yet checked; see `read_weights`."""
    if path.suffix == ".pkl":
        with path.open("rb") as file:
            data = load_array_pickle(file)
        if not isinstance(data, dict):
            raise ValueError("no weights by name")
        if "model" in data and "__author__" in data:
            return data
        blobs = data.get("blobs", data)
        # Beside them lie texts and numbers of the training.
        model = {
            name: value
            for name, value in blobs.items()
            if isinstance(value, np.ndarray) and not name.endswith("_momentum")
        }
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
    if path.suffix == ".npz":
        # A stored backbone need not know where in the network it stands: matched by the ends of the names.
        model = {name.removeprefix("backbone.bottom_up."): values for name, values in read_arrays(path).items()}
        return {"model": model, "matching_heuristics": True}
    if path.suffix == ".safetensors":
        return {"model": _read_safetensors(path)}
    if path.suffix == ".pth":
        check_torch(path)
        data = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(data, dict):
            raise ValueError("no weights by name")
        return data if "model" in data else {"model": dict(data)}
    raise InputError(f"{path}: unknown kind of weight file; use .pth, .pkl, .npz or .safetensors")


def checksum(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> str:
    """SHA-256 of tensors with their names, types and shapes, and of the metadata (but for its own ``sha256``)."""
    told = {key: value for key, value in metadata.items() if key != "sha256"}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.contiguous().numpy().data)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """Float32 tensors of a file; a model of maskseg carries its checksum, and what carries one must have it."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  it is no dict
    if metadata.get("format", "").startswith("maskseg") and "sha256" not in metadata:
        raise InputError(f"{path}: it carries no checksum; export it again")
    if "sha256" in metadata and metadata["sha256"] != checksum(tensors, metadata):
        raise ValueError("its checksum is another, so it was damaged or changed")
    return {name: value.float() for name, value in tensors.items()}


def model_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """The weights of a file as tensors, by name; see `read_weights`."""
    return {key: torch.as_tensor(value) for key, value in read_weights(path)["model"].items()}


def write_checkpoint(path: Path, data: dict[str, Any]) -> None:
    """Write a ``.pth`` whole or not at all.

    Raises
    ------
    InputError
        If the disk is full or the folder cannot be written.
    """
    with write_whole(path) as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:
            # torch still closes its archive when a write has failed, and complains of that instead.
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None


def misfit(name: str, there: tuple[int, ...], here: tuple[int, ...]) -> str:
    """In words: a tensor's shape in a weight file and in the network differ."""
    if name.endswith("rpn_head.objectness_logits.weight"):
        return f"{there[0]} anchors a cell there, {here[0]} by the config's MODEL.ANCHOR_GENERATOR"
    return f"{name} is {' x '.join(map(str, there))} there, {' x '.join(map(str, here))} here"


def last_checkpoint(folder: Path) -> Path:
    """The checkpoint that a training folder names as its last; it is in that folder.

    Raises
    ------
    InputError
        If what it names is elsewhere.
    """
    with (folder / "last_checkpoint").open("rb") as file:
        name = file.read(1000).decode(errors="replace").strip()
    if name in ("", "..") or Path(name).name != name or not name.isprintable():
        raise InputError(f"{folder / 'last_checkpoint'}: names no file of its folder; write the checkpoint's there")
    return folder / name


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe reading and whole writing.

    Weights to start from are matched by name and shape: what does not fit keeps its start value, so a ResNet-101 may
    start from ResNet-50 weights. A checkpoint to go on from has to fit wholly. Of the checkpoints on the way
    (``model_0000999.pth``) only the last is kept.
    """

    # Whether everything has to fit.
    _whole = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Without Detectron2's handlers, which download whatever has an address.
        self.path_manager = PathManager()

    def get_checkpoint_file(self) -> str:
        """Path of the checkpoint to go on from, "" if there is none."""
        return str(last_checkpoint(Path(self.save_dir))) if self.has_checkpoint() else ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name.pth`` with the model and all checkpointables; a kill in mid-write loses nothing."""
        if not self.save_dir or not self.save_to_disk:
            return
        folder = Path(self.save_dir)
        data: dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()}, **kwargs)
        write_checkpoint(folder / f"{name}.pth", data)
        with write_whole(folder / "last_checkpoint", "w") as file:
            file.write(f"{name}.pth")
        self._leave_only(name)

    def _leave_only(self, name: str) -> None:
        """Remove the checkpoints on the way but for one."""
        for path in Path(self.save_dir).glob("model_[0-9]*.pth"):
            if path.stem != name:
                path.unlink()

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Go on from the last checkpoint if asked and there is one, else start from the weights at `path`.

        Raises
        ------
        InputError
            As `load`; also if the checkpoint is not of this network.
        """
        folder = Path(self.save_dir)
        if self.save_dir and self.save_to_disk:
            # What a training that was killed had begun to write.
            begun = {left.name[1:].rpartition(".")[0] for left in folder.glob(".model_*.pth.*")}
            remove_leftovers(folder, begun | {"last_checkpoint", "config.yaml"})
        self._whole = resume and self.has_checkpoint()
        if self._whole and self.save_to_disk:
            self._leave_only(last_checkpoint(folder).stem)
        if not self._whole and not path:
            damp_new_blocks(self.model, self.model.state_dict().keys())
        return super().resume_or_load(path, resume=resume)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a path or an address such as ``detectron2://...``.

        Raises
        ------
        InputError
            If it cannot be had or read, or nothing in it fits the network.
        """
        if path and not Path(path).is_file():
            if not is_address(path):
                raise InputError(f"{path}: no such weight file; check MODEL.WEIGHTS")
            path = str(downloaded(path))
        return super().load(path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return {**read_weights(filename), "file": filename}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        if checkpoint.get("matching_heuristics"):
            self._fit_stem(checkpoint["model"])
        if not self._whole:
            self._fit_classes(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        file, missing = checkpoint["file"], incompatible.missing_keys
        total = len(self.model.state_dict())
        # Of the shapes that differ, anchors tell the most.
        other = sorted((misfit(*found) for found in incompatible.incorrect_shapes), key=lambda text: " is " in text)
        lacking = [f"it has no {name}" for name in missing]
        beyond = [f"the network has no {name}" for name in incompatible.unexpected_keys]
        if self._whole and (other or lacking or beyond):
            raise InputError(
                f"{file}: a checkpoint of another network ({[*other, *lacking, *beyond][0]}); "
                "go on with the config that it was begun with, or choose another OUTPUT_DIR"
            )
        damp_new_blocks(self.model, set(missing) | {name for name, *_ in incompatible.incorrect_shapes})
        # A part may be wanted (an ImageNet start), nothing at all never.
        if len(missing) == total:
            raise InputError(
                f"{file}: none of its weights fits the network; they are matched by Detectron2's names, "
                "such as backbone.bottom_up.res2.0.conv1.weight"
            )
        if missing:
            parts = Counter(".".join(name.split(".")[:2]) for name in missing)
            logger.warning(
                "%s: %d of the network's %d tensors are taken from it; the others start afresh: %s%s",
                file,
                total - len(missing),
                total,
                ", ".join(f"{part} ({count})" for part, count in parts.items()),
                f"; of another shape: {', '.join(other[:3])}" if other else "",
            )
        return incompatible

    def _fit_stem(self, weights: dict[str, Any]) -> None:
        """Fit the first convolution of a stored backbone to the channels that the network sees."""
        for own, value in self.model.state_dict().items():
            if own.endswith("stem.conv1.weight"):
                for name in weights.keys() & {"stem.conv1.weight", "conv1_w"}:  # the latter in Detectron2's zoo
                    weights[name] = spread_channels(np.asarray(weights[name]), value.shape[1])

    def _fit_classes(self, weights: dict[str, Any]) -> None:
        """Begin the last layer for other classes than those in the file with what it knows of nuclei.

        Only for a file whose boxes are the same for all classes, as maskseg trains them; the first classes of the
        network are then those of the file.
        """
        box, state = "roi_heads.box_predictor.", self.model.state_dict()
        there, here = weights.get(f"{box}bbox_pred.weight"), state.get(f"{box}bbox_pred.weight")
        if there is None or here is None or len(there) != 4 or len(here) != 4:
            return
        weight, bias = (torch.as_tensor(weights[f"{box}cls_score.{name}"]).float() for name in ("weight", "bias"))
        count = len(state[f"{box}cls_score.weight"]) - 1
        fitted = for_classes(weight, bias, count)
        if fitted is not None:
            weights[f"{box}cls_score.weight"], weights[f"{box}cls_score.bias"] = fitted
            logger.info("the layer of classes goes on from one of %d classes to %d", len(bias) - 1, count)

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Said in one line already; what a file holds beyond the network is of no interest."""


def for_classes(weight: torch.Tensor, bias: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor] | None:
    """The layer that tells classes apart, for another number of them; background is the last.

    How sure it is that something is a nucleus stays nearly the same: the chance is divided among the classes. Their
    weights differ from what is known of any nucleus by noise that adds up to nothing. With equal ones the classes
    would be alike to all layers below, which could not learn what tells them apart.

    Parameters
    ----------
    weight, bias : tensors (K + 1, D), (K + 1,)
    count : int
        Of the classes wanted. More than K: the first K are those that it knows, or where K is 1 what it knows of any
        nucleus. 1: any nucleus.

    Returns
    -------
    weight, bias : tensors (count + 1, D), (count + 1,); or None
        None where it is of so many already, or of fewer it cannot be said which.
    """
    known = len(bias) - 1
    if known == count or known < 1 or 1 < count < known:
        return None
    mean, level = weight[:-1].mean(dim=0), bias[:-1].mean()
    if known == 1 or count == 1:
        rows, shift = _parted(mean, count), math.log(known / count)
        return torch.cat([rows, weight[-1:]]), torch.cat([(level + shift).expand(count), bias[-1:]])
    new = count - known
    return (
        torch.cat([weight[:-1], _parted(mean, new), weight[-1:]]),
        torch.cat([bias[:-1], (level - math.log(known)).expand(new), bias[-1:]]),
    )


def _parted(mean: torch.Tensor, count: int) -> torch.Tensor:
    """Rows (count, D) whose mean is the given one (D,), apart by noise as large as the weights; always the same."""
    noise = torch.randn(count, len(mean), generator=torch.Generator().manual_seed(0))
    return mean + (noise - noise.mean(dim=0)) * mean.std()


def spread_channels(weights: NDArray[np.floating], channels: int) -> NDArray[np.floating]:
    """Filters (N, 3, h, w) for RGB images as filters (N, C, h, w) for images of C channels.

    One channel gets the sum of the three, which is the answer to a grey image. More get the three in turn, times 3 / C.
    """
    if channels == 1:
        return weights.sum(axis=1, keepdims=True)
    return weights[:, np.arange(channels) % 3] * np.float32(3 / channels)
