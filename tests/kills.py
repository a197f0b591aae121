"""Commands that are killed at random moments, begun again, and compared with a run that nobody killed.

    python -m tests.kills               50 moments for each command, with a table of figures at the end
    python -m tests.kills 10 predict    10 moments for one of them

Each command runs in a process that is forked from this one, where all that it needs is imported already, so that the
moments lie in its work and not in its start. What is compared are the bytes of every file, hidden ones too: nothing may
be missing, torn, doubled or left over, nor may a process of Ray. What is killed is the command with all that it
started, or the command alone. With RAY_ADDRESS that of Ray does not start one each time: the moments lie in the work.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGES = 10
MARK = "MASKSEG_KILLS"
"""The variable by which the programs that a command starts are told from those of others, tests beside it too."""


# ---- what is run: each makes OUT from IN, in this process ----


def command(*words: object) -> None:
    """`maskseg WORDS`."""
    from maskseg.cli import main

    sys.argv = ["maskseg", *map(str, words)]
    try:
        main.main()
    except SystemExit as end:
        # 1 and 2: what is at fault was said, and the rest is done.
        assert end.code in (None, 0, 1, 2), end.code


def predict(source: Path, out: Path) -> None:
    """All formats, with a network that finds stripes."""
    from maskseg.formats import registry
    from maskseg.imaging.finding import find_images
    from maskseg.inference.run import predict_files
    from tests.inference.test_ray_executor import Cells

    assert predict_files(Cells(), find_images([source / "images"]), out, registry.predicted()) == []


def tiled(source: Path, out: Path) -> None:
    """All formats, of an image in tiles."""
    from maskseg.formats import registry
    from maskseg.imaging.finding import find_images
    from maskseg.inference.run import predict_files
    from maskseg.inference.tile_grid import Tiles
    from tests.inference.test_predictor import predictor
    from tests.inference.test_tiling import UNSCALED, Marked

    tiles = Tiles(side=128, overlap=68, large=1000)
    files = find_images([source / "large"])
    assert predict_files(predictor(Marked(), *UNSCALED), files, out, registry.predicted(), tiles=tiles) == []


def ray(source: Path, out: Path) -> None:
    """The images shared among the two processes of a Ray of its own."""
    from maskseg.formats import registry
    from maskseg.imaging.finding import find_images
    from maskseg.inference import ray_executor
    from maskseg.inference.run import predict_files
    from tests.inference.test_ray_executor import Slow

    ray_executor.available_cores = lambda: 2
    files = find_images([source / "images"])
    assert predict_files(Slow(), files, out, registry.predicted(), cluster=True) == []


def convert(source: Path, out: Path) -> None:
    """Label images to a data set."""
    command("convert", "labels", source / "labels", "-o", out, "--workers", 1)


def check(source: Path, out: Path) -> None:
    """The repaired copy of a data set."""
    command("check", source / "data", "--fix", out, "--workers", 1)


def pack(source: Path, out: Path) -> None:
    """The packed copy of a data set."""
    command("pack", source / "data", "-o", out, "--workers", 1)


def train(source: Path, out: Path) -> None:
    """Six iterations of a tiny network, with a checkpoint every second one."""
    from tests.fixtures.training import TINY

    values = {
        **TINY, "DATASETS.TRAIN": f"('{source / 'data'}',)", "DATASETS.TEST": "()", "OUTPUT_DIR": out, "SEED": 1,
        "SOLVER.MAX_ITER": 6, "SOLVER.CHECKPOINT_PERIOD": 2,
    }  # fmt: skip
    words = [str(text) for pair in values.items() for text in pair]
    resume = ["--resume"] if (out / "last_checkpoint").exists() else []
    command("train", "--config-file", "nuclei_R_18_FPN", "--num-gpus", 0, *resume, *words)


def serve(_source: Path, out: Path) -> None:
    """A person's 40 edits on the page, who goes on with the first one that is not there."""
    from maskseg.serve.session import Session

    session = Session(out, (200, 300))
    for number in range(len(session.nuclei.masks()[0]), 40):
        x, y = 10 + 25 * (number % 10), 10 + 30 * (number // 10)
        session.edit("add", {"ring": [[x, y], [x + 15, y], [x + 15, y + 15], [x, y + 15]]})
    session.close()


# ---- what it is made from ----


def write_source(folder: Path) -> None:
    """Images, a large one, label images, and a data set with masks that `check` repairs."""
    import tifffile

    from maskseg.core.masks import CropMasks
    from maskseg.formats.coco import write_coco
    from maskseg.formats.labels import write_labels
    from tests.inference.test_tiling import marks

    for name in ("images", "large", "labels/images", "data/images"):
        (folder / name).mkdir(parents=True)
    (folder / "labels" / "masks").mkdir()
    images, annotations = [], []
    for number in range(IMAGES):
        picture = np.broadcast_to(np.arange(60, dtype=np.uint8) + number, (40, 60)).copy()
        labels = np.zeros((40, 60), np.int32)
        labels[5:20, 5:20], labels[5:20, 30:45], labels[30:33, 30:33] = 1, 2, 1
        for part in ("images", "labels/images", "data/images"):
            cv2.imwrite(str(folder / part / f"image_{number:02}.png"), picture)
        write_labels(folder / "labels" / "masks" / f"image_{number:02}.tif", labels)
        masks = CropMasks.from_labels(labels)
        images.append({"id": number, "file_name": f"image_{number:02}.png", "height": 40, "width": 60})
        for rle, (x0, y0, x1, y1), area in zip(masks.to_rle(), masks.boxes.tolist(), masks.areas, strict=True):
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0, "area": int(area)}
                | {"bbox": [x0, y0, x1 - x0, y1 - y0], "segmentation": rle}
            )
    write_coco(folder / "data" / "annotations.json", images, annotations)
    image = marks(np.random.default_rng(5), (300, 260), 150)
    tifffile.imwrite(folder / "large" / "a.tif", image, tile=(64, 64), photometric="rgb")


# ---- killing ----


def contents(folder: Path) -> dict[str, object]:
    """Bytes of every file below a folder, hidden ones too; without what tells the time of day."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        # Times of day stand in the logs of a training.
        if path.is_dir() or name.startswith(("events.out", "log.txt")):
            continue
        if name == "images.csv":
            lines = path.read_text().splitlines()
            place = lines[0].split(",").index("seconds")
            found[name] = [[cell for at, cell in enumerate(line.split(",")) if at != place] for line in lines]
        elif name == "metrics.json":
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            found[name] = [{key: value for key, value in row.items() if not key.endswith("time")} for row in rows]
        elif name == "metrics.csv":
            with path.open(newline="") as file:
                rows = list(csv.DictReader(file))
            found[name] = [{key: value for key, value in row.items() if not key.endswith("time")} for row in rows]
        elif name == "config.yaml":
            found[name] = path.read_text().replace(str(folder), "OUT")
        elif name == "edits.log":
            found[name] = [{**json.loads(line[9:]), "time": 0} for line in path.read_text().splitlines()]
        elif path.suffix == ".pth":
            found[name] = weights_of(path)
        else:
            found[name] = path.read_bytes()
    return found


def weights_of(path: Path) -> dict[str, bytes]:
    """What a checkpoint holds of the network; the file has paths and times, too."""
    from maskseg.models.checkpoint import model_weights

    return {name: value.numpy().tobytes() for name, value in model_weights(path).items()}


def begun(job: Callable[[Path, Path], None], source: Path, out: Path, said: Path | None = None) -> int:
    """The id of a process that does a job; its own group, so that its children die with it. `said` gets its output."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        os.setpgrp()
        os.environ[MARK] = str(os.getppid())
        with (said or out.with_suffix(".said")).open("a") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        # Not those that pytest has put in their place.
        sys.stdout = sys.stderr = os.fdopen(2, "w", buffering=1)
        job(source, out)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def agents() -> list[str]:
    """Programs that what was begun here started, Ray's first of all, and that are there after some seconds."""
    mark = f"{MARK}={os.getpid()}\0".encode()
    found: list[str] = []
    # Unmended they live on for a minute; on a busy machine they take some seconds to notice.
    for _ in range(150 if "RAY_ADDRESS" not in os.environ else 0):
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            # It has ended, or is somebody else's.
            with suppress(OSError):
                if mark in process.joinpath("environ").read_bytes():
                    words = process.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{process.name} {words[:200]}")
        if not found:
            break
        time.sleep(0.1)
    return found


def import_all(job: Callable[[Path, Path], None], source: Path, out: Path) -> None:
    """Import what a job imports, as a process that does it once finds out."""
    names = out.with_suffix(".modules")

    def told(source: Path, out: Path) -> None:
        job(source, out)
        names.write_text("\n".join(sys.modules))

    ended(begun(told, source, out), out)
    for name in names.read_text().split():
        # Some are made by others.
        with suppress(Exception):
            importlib.import_module(name)


def ended(child: int, out: Path) -> None:
    """Wait for a process that is to end well."""
    _, status = os.waitpid(child, 0)
    if status:
        said = out.with_suffix(".said").read_text()[-3000:]
        raise AssertionError(f"the command ended with {os.waitstatus_to_exitcode(status)}: {said}")


@dataclass
class Killed:
    """Figures of a command: moments at which it was killed, seconds of an unbroken run, ends that were compared."""

    name: str
    seconds: float = 0.0
    kills: int = 0
    alone: int = 0
    ends: int = 0

    def __str__(self) -> str:
        return (
            f"{self.name:8s} {self.kills:3d} kills ({self.alone} of the command alone) in runs of "
            f"{self.seconds:.2f} s, {self.ends} ends, all equal"
        )


def killed(name: str, moments: int, source: Path, folder: Path, seed: int = 0) -> Killed:
    """Kill a command at random moments of its run, let it end now and then, and compare.

    Raises
    ------
    AssertionError
        An end differs from that of the unbroken run, which names the files.
    """
    job, chance, figures = JOBS[name], random.Random(seed), Killed(name)
    import_all(job, source, folder / "first")
    start = time.monotonic()
    ended(begun(job, source, folder / "whole"), folder / "whole")
    figures.seconds = time.monotonic() - start
    expected = contents(folder / "whole")
    out = folder / "broken"
    while figures.kills < moments:
        for _ in range(chance.randint(1, 3)):
            child = begun(job, source, out)
            time.sleep(chance.uniform(0, figures.seconds))
            alone = chance.random() < 0.5
            with suppress(ProcessLookupError):
                if not alone:
                    os.killpg(child, signal.SIGKILL)
            os.kill(child, signal.SIGKILL)
            died = os.waitpid(child, 0)[1] == signal.SIGKILL
            figures.kills += died
            figures.alone += died and alone
        ended(begun(job, source, out), out)
        found = contents(out)
        wrong = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        if wrong:
            raise AssertionError(f"{name}, after {figures.kills} kills: {wrong} differ in {out}")
        if left := agents():
            raise AssertionError(f"{name}, after {figures.kills} kills are left over: {left}")
        figures.ends += 1
        shutil.rmtree(out)
    return figures


JOBS: dict[str, Callable[[Path, Path], None]] = {
    job.__name__: job for job in (predict, tiled, ray, convert, check, pack, train, serve)
}


def main() -> None:
    """The table."""
    import torch

    torch.set_num_threads(1)
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_source(source)
        for name in sys.argv[2:] or JOBS:
            (Path(folder) / name).mkdir()
            print(killed(name, moments, source, Path(folder) / name), flush=True)


if __name__ == "__main__":
    main()
