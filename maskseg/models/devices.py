"""The device that a network runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from maskseg.core.errors import InputError

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def choose_device(wanted: str = "auto") -> str:
    """Name the device to use, as torch and MODEL.DEVICE do.

    Parameters
    ----------
    wanted : str
        "cpu", "cuda", "mps", or "auto": a CUDA GPU where there is one, else the CPU. The GPU of a Mac is used when it
        is asked for only.

    Raises
    ------
    InputError
        If the wanted device is not usable here.
    """
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        why = "no driver or no GPU" if torch.version.cuda or torch.version.hip else "the torch installed has CPUs only"
        raise InputError(f"--device cuda: no CUDA GPU is usable here ({why}); use --device auto or cpu")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise InputError("--device mps: there is no Mac's GPU here that torch can use; use --device auto or cpu")
    return wanted


def on_device(cfg: CfgNode, wanted: str = "auto") -> CfgNode:
    """A copy of a config with its MODEL.DEVICE chosen; see `choose_device`."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = choose_device(wanted)
    cfg.freeze()
    return cfg


def describe_device(device: str) -> str:
    """Say in one line what a device is, such as ``device: cpu, 8 threads``."""
    if device.startswith("cuda"):
        about = torch.cuda.get_device_properties(device)
        return f"device: {device}, {about.name}, {about.total_memory / 2**30:.0f} GiB"
    if device == "mps":
        return "device: mps"
    hint = "; --device mps would use the GPU" if torch.backends.mps.is_available() else ""
    threads = torch.get_num_threads()
    return f"device: cpu, {threads} thread{'s' * (threads > 1)}{hint}"
