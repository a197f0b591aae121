"""Training in several processes: Detectron2's `launch` on the GPUs of one machine, or torchrun on any machines."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from detectron2.engine import create_ddp_model, launch
from detectron2.utils import comm
from torch import distributed, multiprocessing, nn

from maskseg.core.errors import InputError


def run(function: Callable[..., None], num_gpus: int, args: tuple[Any, ...]) -> None:
    """Call a function in this process, in one process for each of several GPUs, or as torchrun started us.

    Raises
    ------
    InputError
        Also where one was raised in a process that was started here.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        join_torchrun()
        try:
            function(*args)
        finally:
            distributed.destroy_process_group()
    elif num_gpus > 1:
        try:
            launch(function, num_gpus, dist_url="auto", args=args)
        except multiprocessing.ProcessRaisedException as error:
            # It holds the text of the child's traceback, which ends with the exception.
            name, _, message = str(error).strip().splitlines()[-1].partition(": ")
            if name.endswith("InputError"):
                raise InputError(message) from None
            raise
    else:
        function(*args)


def join_torchrun() -> None:
    """Join the processes that torchrun started: NCCL where there are GPUs, else gloo."""
    gpu = torch.cuda.is_available()
    distributed.init_process_group("nccl" if gpu else "gloo")
    size, local_size = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
    if gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Detectron2 wants to know the processes of each machine; newer versions have a function for it.
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(local_size)
        return
    for first in range(0, size, local_size):
        ranks = list(range(first, first + local_size))
        group = distributed.new_group(ranks)
        if distributed.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group


def parallel(model: nn.Module) -> nn.Module:
    """The model with its gradients averaged over all processes; itself where there is only one."""
    on_cpu = next(model.parameters()).device.type == "cpu"
    return create_ddp_model(model, broadcast_buffers=False, **({"device_ids": None} if on_cpu else {}))
