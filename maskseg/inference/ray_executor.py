"""The images of a run shared among the processes of a Ray cluster: one machine or many, CPU or GPU.

Each actor holds the model and does with its files what a local run does, in folders that all machines see: the files
of an image first, then its part. Images that are predicted in tiles go whole to the actors as long as there are as many
of them. The tiles of the others are shared: an actor writes the file of each tile that it is given, as a local run
does, and this process settles the seams and writes the results, once. What goes over the network is names and numbers.

Where an actor dies, what it was at is done again (`maskseg.inference.ray_pool`). What has a part or a file is passed
over, the rest done one at a time, so that an image that ends one actor after another is known, and left out.
"""

from __future__ import annotations

import copy
import logging
import os
import re
import socket
import subprocess
import sys
import uuid
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from maskseg.core.errors import InputError
from maskseg.core.optional import need
from maskseg.core.threads import available_cores
from maskseg.imaging.reading import ImageFile
from maskseg.inference import ray_ending
from maskseg.inference.batching import OUT_OF_MEMORY
from maskseg.inference.faults import reason_for
from maskseg.inference.memory import keep_freed_memory
from maskseg.inference.ray_pool import Ended, Lost, Pool, portions
from maskseg.inference.tiled_run import Look, open_large, predict_large
from maskseg.inference.tiling import Tally, TiledImage, TiledPredictor

if TYPE_CHECKING:
    from maskseg.inference.predictor import Predictor
    from maskseg.inference.run import Run

# Files, and tiles of one image, that an actor is given at once at most.
_FILES, _TILES = 16, 4
# What an actor says of an image that is predicted in tiles, which no reason is; and what is said of what is lost.
_IN_TILES = "in tiles"
_LOST = "ended two processes, perhaps out of memory"
# Bytes that an actor may need: the model, a tile or an image, what is read ahead.
_MEMORY = 2 << 30
# For a Ray of our own: names and one model pass through it.
_STORE = 512 << 20
# A variable by which the processes of such a Ray are known: each has it from the one that started it.
_MARK = "MASKSEG_RAY"


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
    if not files:
        return
    with _connected(ray), closing(_pool(ray, run, predictor)) as pool:
        try:
            large: list[ImageFile] = []
            for file, reason in _of_images(pool, portions(files, pool.count, _FILES), whole=False):
                if reason == _IN_TILES:
                    large.append(file)
                else:
                    yield file, reason
            # As many images as there are actors keep all of them busy.
            shared = len(large) % pool.count if len(large) > pool.count else len(large)
            yield from _of_images(pool, [[file] for file in large[shared:]], whole=True)
            for file in large[:shared]:
                yield file, _in_shared_tiles(run, predictor, pool, file)
        finally:
            run.tidy()


def _pool(ray: Any, run: Run, predictor: Predictor) -> Pool:
    """An actor for each GPU of the cluster, or each core as far as the memory goes."""
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0))
    memory = int(min(_MEMORY, resources["memory"]))
    count = gpus or int(max(1, min(resources.get("CPU", 1), resources["memory"] // memory)))
    sent = copy.copy(predictor)
    sent.model = copy.deepcopy(predictor.model).to("cpu")
    settings = run.stamp.read_text(encoding="utf-8")
    # The reference to the model, which Ray follows: it is not sent with each actor.
    arguments = replace(run, files=()), ray.put(sent), str(Path.cwd()), settings
    options = {"num_cpus": 1, "num_gpus": 1 if gpus else 0, "memory": None if gpus else memory}
    return Pool(ray, _Actor, arguments, count, options)


def _of_images(
    pool: Pool, files: Sequence[Sequence[ImageFile]], whole: bool
) -> Generator[tuple[ImageFile, str | None], None, None]:
    """Files of images that an actor predicts by itself, in portions, each with the reason why it is left out."""
    with closing(pool.run("images", files, whole)) as outcomes:
        for file, reason in outcomes:
            yield file, f"{file.name}: {_LOST}; cut it into pieces" if isinstance(reason, Lost) else reason


def _in_shared_tiles(run: Run, predictor: Predictor, pool: Pool, file: ImageFile) -> str | None:
    """Predict one image with all actors; why it is left out. The seams are settled, and its files written, here."""
    assert isinstance(predictor, TiledPredictor), "without tiles nothing is large"

    def share(image: TiledImage, tiles: Sequence[int]) -> Iterator[Tally]:
        outcomes = pool.run("tiles", portions(tiles, pool.count, _TILES), file, Look.of(image))
        with closing(outcomes):
            for _, outcome in outcomes:
                if isinstance(outcome, MemoryError):
                    raise outcome
                if isinstance(outcome, Lost):
                    raise InputError(f"{file.name}: a tile of it {_LOST}; give a smaller --tile")
                if isinstance(outcome, str):
                    raise InputError(outcome)
                yield outcome

    try:
        predict_large(run, predictor, file, share)
    except Exception as error:
        return reason_for(file, error)
    return None


class _Actor:
    """Predicts portions of images, or of the tiles of one."""

    def __init__(self, run: Run, predictor: Any, folder: str, settings: str) -> None:
        self.run, self.predictor, self._folder, self._settings = run, predictor, folder, settings
        # The image whose tiles come one portion after another is opened once.
        self._opened: tuple[ImageFile, Look, TiledImage] | None = None

    def ready(self) -> Ended | None:
        """Make ready; why that cannot be."""
        import ray

        cv2.setNumThreads(1)
        keep_freed_memory()
        try:
            os.chdir(self._folder)
            seen = self.run.stamp.read_text(encoding="utf-8")
        except OSError:
            seen = None
        if seen != self._settings:
            machine = ray.util.get_node_ip_address()
            reason = f"the machine {machine} does not see {self.run.out} in {self._folder}; share the folders with it"
            return Ended(reason)
        device = self.predictor.cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
        self.predictor.model.to(device)
        return None

    def images(self, files: Sequence[ImageFile], whole: bool) -> list[str | None] | Ended:
        """Why each image is left out if it is; large ones are not done but told, where not all are to be done whole."""
        todo = [file for file in files if not self.run.is_done(file)]
        large = {} if whole else {file.id: _IN_TILES for file in todo if self.run.goes_in_tiles(self.predictor, file)}
        try:
            outcomes = self.run.outcomes(self.predictor, [file for file in todo if file.id not in large])
            reasons = {file.id: reason for file, reason in outcomes}
        except InputError as error:
            return Ended(str(error))
        return [large.get(file.id, reasons.get(file.id)) for file in files]

    def tiles(self, tiles: Sequence[int], file: ImageFile, look: Look) -> list[Tally | MemoryError | str] | Ended:
        """What is to be known of tiles of an image whose files are there now, or why they cannot be."""
        try:
            if self._opened is None or self._opened[:2] != (file, look):
                self._opened = file, look, open_large(self.run, self.predictor, file, look).image
            return list(self._opened[2].tally(tiles))
        except OUT_OF_MEMORY:
            return [MemoryError()] * len(tiles)
        except Exception as error:
            try:
                return [reason_for(file, error)] * len(tiles)
            except InputError as ended:
                return Ended(str(ended))


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
    address = os.environ.get("RAY_ADDRESS")
    # Ray waits 30 s for its own parts to start, which a busy machine may not do at once.
    with nullcontext() if address else _ended_with_this_process():
        for last in [True] if address else [False, False, True]:
            try:
                _connect(ray, address)
                break
            except Exception as error:  # Ray has many, down to Exception itself; all mean the same here
                ray.shutdown()
                if last:
                    where, remedy = address or "this machine", "start it or set RAY_ADDRESS"
                    # Ray wraps it in an error of the network.
                    if "AuthenticationError" in (type(error).__name__, type(error.__cause__).__name__):
                        remedy = "it asks for a token: set RAY_AUTH_MODE=token, with its token in ~/.ray/auth_token"
                    raise InputError(f"no Ray at {where} ({' '.join(str(error).split())}); {remedy}") from error
        os.environ.pop(_MARK, None)
        try:
            yield
        finally:
            ray.shutdown()


@contextmanager
def _ended_with_this_process() -> Iterator[None]:
    """What is started from here on, as long as `_MARK` is set, ends with this process, at once when it is killed.

    Ray itself takes a minute, and where it was killed while it started more.
    """
    if not sys.platform.startswith("linux"):  # others do not say what variables a process has
        yield
        return
    mark = str(uuid.uuid4())
    arguments = [sys.executable, "-S", ray_ending.__file__, f"{_MARK}={mark}"]
    ending = subprocess.Popen(arguments, stdin=subprocess.PIPE, start_new_session=True)
    os.environ[_MARK] = mark
    try:
        yield
    finally:
        os.environ.pop(_MARK, None)
        ending.communicate()


def _connect(ray: Any, address: str | None) -> None:
    """Connect to the cluster at an address, or to one of our own."""
    if address:
        # Ray itself tries for minutes.
        if place := re.fullmatch(r"(?:ray://)?(.+):(\d+)", address):
            socket.create_connection((place[1], int(place[2])), timeout=10).close()
        ray.init(address=address, logging_level=logging.ERROR)
        return
    ray.init(
        address="local",
        num_cpus=available_cores(),
        object_store_memory=_STORE,
        include_dashboard=False,
        logging_level=logging.ERROR,
    )
