"""The images of a run shared among the processes of a Ray cluster: one machine or many, CPU or GPU.

Ray Data hands files, a few at a time, to actors. Each holds the model and does with its files what a local run does,
in folders that all machines see: the files of an image first, then its part. What goes over the network is names.

Where an actor dies Ray starts another and hands it the same files. Those that have a part are passed over, the others
done one at a time, so that an image that ends one actor after another is known, and left out.
"""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import cv2
import torch

from maskseg.core.errors import InputError
from maskseg.core.optional import need
from maskseg.core.threads import available_cores
from maskseg.imaging.reading import ImageFile

if TYPE_CHECKING:
    from maskseg.inference.predictor import Predictor
    from maskseg.inference.run import Run

# Files that an actor is given at once, at most, and how many times as many portions as actors there are at least.
_FILES, _PORTIONS = 16, 4
# Bytes that an actor may need: the model, a tile or an image, what is read ahead.
_MEMORY = 2 << 30
# For a Ray of our own: names and one model pass through it.
_STORE = 512 << 20
# A program that ends the processes of such a Ray when its input ends, as it does with this process: those that have a
# file open in the folder that the input names, or have it on their command line.
_END = """
import os, signal, sys
folder = sys.stdin.read()
for number in filter(str.isdigit, os.listdir("/proc") if folder else []):
    try:
        with open(f"/proc/{number}/cmdline") as file:
            words = [file.read(), *(os.readlink(file.path) for file in os.scandir(f"/proc/{number}/fd"))]
        if any(folder in word for word in words) and int(number) not in (os.getpid(), os.getppid()):
            os.kill(int(number), signal.SIGKILL)
    except OSError:
        pass
"""


def outcomes_on_ray(
    run: Run, predictor: Predictor, files: Sequence[ImageFile]
) -> Generator[tuple[ImageFile, str | None], None, None]:
    """`Run.outcomes` of the actors of a cluster: that of ``RAY_ADDRESS``, or one that is started for this run.

    Each GPU of the cluster has an actor, or where there is none, each core as far as the memory goes. Results are
    those of a local run with one thread on such a machine.

    Parameters
    ----------
    run : Run
        Prepared. Its folder, the working directory and the images have the same paths on all machines.
    predictor : Predictor
        Goes to each actor once.
    files : sequence of ImageFile

    Yields
    ------
    file, reason : (ImageFile, str or None)
        As soon as each portion is done, in any order.

    Raises
    ------
    InputError
        Ray is missing or cannot be reached, a machine does not see the folders, or a result cannot be written.
    """
    ray = need("ray", "cluster", "--cluster ray")
    need("ray.data", "cluster", "--cluster ray")
    if not files:
        return
    by_id = {file.id: file for file in files}
    shutil.rmtree(_begun(run), ignore_errors=True)  # of a run that was killed
    with _connected(ray):
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        # Ray would end a run after half an hour in which no portion was done: one slide can take longer than that.
        if hasattr(context, "execution_no_progress_timeout_s"):
            context.execution_no_progress_timeout_s = -1
        resources = ray.cluster_resources()
        gpus = int(resources.get("GPU", 0))
        memory = int(min(_MEMORY, resources["memory"]))
        actors = gpus or int(max(1, min(resources.get("CPU", 1), resources["memory"] // memory)))
        portions = _portions(files, actors)
        sent = copy.copy(predictor)
        sent.model = copy.deepcopy(predictor.model).to("cpu")
        settings = run.stamp.read_text(encoding="utf-8")
        # A block is what an actor is given at once.
        outcomes = ray.data.from_items(portions, override_num_blocks=len(portions)).flat_map(
            _Actor,
            fn_constructor_args=(replace(run, files=()), ray.put(sent), str(Path.cwd()), settings),
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(portions))),
            num_cpus=1,
            num_gpus=1 if gpus else 0,
            memory=None if gpus else memory,
        )
        try:
            for outcome in outcomes.iter_rows():
                if outcome["ended"]:
                    raise InputError(outcome["reason"])
                yield by_id[outcome["id"]], outcome["reason"] or None
        finally:
            shutil.rmtree(_begun(run), ignore_errors=True)
            run.tidy()


class _Actor:
    """Predicts portions of files; `problem` says why it cannot."""

    def __init__(self, run: Run, predictor: Any, folder: str, settings: str) -> None:
        import ray

        self.run, self.problem = run, None
        cv2.setNumThreads(1)
        try:
            os.chdir(folder)
            seen = run.stamp.read_text(encoding="utf-8")
        except OSError:
            seen = None
        if seen != settings:
            machine = ray.util.get_node_ip_address()
            self.problem = f"the machine {machine} does not see {run.out} in {folder}; share the folders with it"
            return
        self.predictor = ray.get(predictor)
        device = self.predictor.cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
        self.predictor.model.to(device)

    def __call__(self, portion: dict[str, Any]) -> list[dict[str, Any]]:
        if self.problem:
            return [_outcome("", self.problem, ended=True)]
        files = pickle.loads(portion["files"])
        try:
            reasons = dict(self._outcomes(files))
        except InputError as error:
            return [_outcome("", str(error), ended=True)]
        return [_outcome(file.id, reasons.get(file.id)) for file in files]

    def _outcomes(self, files: Sequence[ImageFile]) -> Iterator[tuple[str, str | None]]:
        """Ids of images that were still to do, and why each is left out if it is."""
        todo = [file for file in files if not self.run.is_done(file)]
        with _marked(_begun(self.run) / "together" / files[0].id) as died:
            if not died:
                yield from ((file.id, reason) for file, reason in self.run.outcomes(self.predictor, todo))
                return
            for file in todo:
                with _marked(_begun(self.run) / file.id) as died_again:
                    if died_again:
                        yield file.id, f"{file.name}: ended two processes, perhaps out of memory; cut it into pieces"
                    else:
                        yield from ((file.id, reason) for _, reason in self.run.outcomes(self.predictor, [file]))


def _begun(run: Run) -> Path:
    """Folder of a file for each thing that an actor is at."""
    return run.parts / "begun"


@contextmanager
def _marked(path: Path) -> Iterator[bool]:
    """A file that is there while the block lasts; whether it was there before, as its process died."""
    died = path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    yield died
    path.unlink()


def _outcome(image_id: str, reason: str | None, ended: bool = False) -> dict[str, Any]:
    return {"id": image_id, "reason": reason or "", "ended": ended}


def _portions(files: Sequence[ImageFile], actors: int) -> list[dict[str, bytes]]:
    """The files in rows of a data set, a portion each."""
    size = max(1, min(_FILES, len(files) // (actors * _PORTIONS)))
    return [{"files": pickle.dumps(files[first : first + size])} for first in range(0, len(files), size)]


@contextmanager
def _connected(ray: Any) -> Iterator[None]:
    """Within a cluster: the one that is connected, that of RAY_ADDRESS, or a new one on this machine."""
    if ray.is_initialized():
        yield
        return
    # Ray would report to its makers that it runs.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Its processes would come after all others (nice 15), and hardly run at all on a busy machine; a command has the
    # priority that it was given, and so has what it shares its work among.
    os.environ.setdefault("RAY_worker_niceness", "0")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    # Ray waits 30 s for its own parts to start, which a busy machine may not do at once.
    with nullcontext() if address else _ended_with_this_process() as told:
        for last in [True] if address else [False, False, True]:
            try:
                folder = _connect(ray, address)
                break
            except Exception as error:  # Ray has many, down to Exception itself; all mean the same here
                ray.shutdown()
                if last:
                    where, remedy = address or "this machine", "start it or set RAY_ADDRESS"
                    # Ray wraps it in an error of the network.
                    if "AuthenticationError" in (type(error).__name__, type(error.__cause__).__name__):
                        remedy = "it asks for a token: set RAY_AUTH_MODE=token, with its token in ~/.ray/auth_token"
                    raise InputError(f"no Ray at {where} ({' '.join(str(error).split())}); {remedy}") from error
        if told and folder:
            told.write(folder)
            told.flush()
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _ended_with_this_process() -> Iterator[IO[str] | None]:
    """A process that ends Ray's at once when this one is killed: Ray itself takes a minute.

    Yields
    ------
    file or None
        To be told Ray's own folder; None where the system does not say which process has which file.
    """
    if not sys.platform.startswith("linux"):
        yield None
        return
    ending = subprocess.Popen(
        [sys.executable, "-S", "-c", _END], stdin=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield ending.stdin
    finally:
        ending.communicate()


def _connect(ray: Any, address: str | None) -> str:
    """Connect; the folder of a Ray of our own, else nothing."""
    if address:
        # Ray itself tries for minutes.
        if place := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
            socket.create_connection((place[1], int(place[2])), timeout=10).close()
        ray.init(address=address, logging_level=logging.ERROR)
        return ""
    made = ray.init(
        address="local",
        num_cpus=available_cores(),
        object_store_memory=_STORE,
        include_dashboard=False,
        logging_level=logging.ERROR,
    )
    return made.address_info["session_dir"] + os.sep
