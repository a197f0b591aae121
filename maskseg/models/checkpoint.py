"""Checkpoints: read without running pickled code, written whole or not at all."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer

from maskseg.errors import InputError
from maskseg.files import write_whole

# All that the pickles of Detectron2's model zoo need: NumPy arrays and plain containers.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
    ("numpy.core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("numpy._core.multiarray", "scalar"): np._core.multiarray.scalar,  # type: ignore[attr-defined]
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): __import__("collections").OrderedDict,
}


class _ArrayUnpickler(pickle.Unpickler):
    """An unpickler that knows NumPy arrays and nothing else, so a file cannot run code."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


def load_array_pickle(file: IO[bytes]) -> Any:
    """Read a pickle that holds only NumPy arrays, numbers, text and containers.

    Raises
    ------
    pickle.UnpicklingError
        If it names anything else.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()


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
    try:
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                data = load_array_pickle(file)
            if "model" in data and "__author__" in data:
                return data
            blobs = data.get("blobs", data)
            model = {name: value for name, value in blobs.items() if not name.endswith("_momentum")}
            return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {"model": {name: arrays[name].astype(np.float32) for name in arrays.files}}
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return {"model": {name: value.float() for name, value in load_file(path).items()}}
        if path.suffix == ".pth":
            data = torch.load(path, map_location="cpu", weights_only=True)
            return data if "model" in data else {"model": data}
    except Exception as error:  # each reader has errors of its own; all mean the same here
        reason = " ".join(str(error).split())[:120]
        raise InputError(f"{path}: not a readable weight file ({reason}); get it again") from error
    raise InputError(f"{path}: unknown kind of weight file; use .pth, .pkl, .npz or .safetensors")


class Checkpointer(DetectionCheckpointer):
    """Detectron2's checkpointer with safe reading and whole writing.

    Weights are matched by name and shape: what does not fit keeps its start value, so a ResNet-101 may start from
    ResNet-50 weights.
    """

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name.pth`` with the model and all checkpointables; a kill in mid-write loses nothing."""
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()}, **kwargs)
        with write_whole(Path(self.save_dir) / f"{name}.pth") as file:
            torch.save(data, file)
        with write_whole(Path(self.save_dir) / "last_checkpoint", "w") as file:
            file.write(f"{name}.pth")

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load a path or an address such as ``detectron2://...``.

        Raises
        ------
        InputError
            If it cannot be had or read.
        """
        if path and not Path(path).is_file():
            try:
                path = self.path_manager.get_local_path(path)
            except Exception as error:
                raise InputError(
                    f"{path}: cannot be had ({' '.join(str(error).split())[:80]}); "
                    "set MODEL.WEIGHTS to a file that is here"
                ) from error
            if not Path(path).is_file():
                raise InputError(f"{path}: no such weight file; check MODEL.WEIGHTS")
        return super().load(path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_weights(filename)
