"""A child of the server in which the network runs: ``python -m maskseg.serve.worker``.

It reads one task a line of JSON from its standard input and answers in lines of JSON on its standard output, each with
a key ``event``: ``progress``, ``image``, ``left out``, ``score``, ``mask``, and at the end of a task ``done`` or
``error``. It ends with its input, also while it works, so that no child outlives the server.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import queue
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.imaging.channels import Choice
from maskseg.imaging.exposure import fixed_limits
from maskseg.imaging.reading import ImageFile
from maskseg.serve.nuclei import to_json, write_masks

if TYPE_CHECKING:
    from maskseg.imaging.windows import Source
    from maskseg.inference.predictor import Predictor
    from maskseg.inference.tiling import TiledPredictor

Say = Callable[..., None]
Task = dict[str, Any]


@lru_cache(maxsize=2)
def _predictor(model: str, changed: int) -> Predictor:
    from maskseg.inference.api import load_model

    return load_model(model)


def _model(task: Task) -> Predictor:
    """The model of a task; a file of the same name that has changed is read again."""
    path = Path(task["model"])
    return _predictor(task["model"], path.stat().st_mtime_ns if path.exists() else 0)


def predict(task: Task, say: Say) -> None:
    """Segment images; each result goes to the file that the task names."""
    from maskseg.inference.faults import reason_for

    say("progress", done=0.0, words="loading the model")
    predictor = _model(task)
    images = task["images"]
    for number, image in enumerate(images):
        choice = Choice(image["channel"], image["planes"])
        file = ImageFile(Path(image["path"]).stem, Path(image["path"]), image["member"], choice)
        begin = time.perf_counter()

        def part(share: float, number: int = number, name: str = file.id) -> None:
            say("progress", done=(number + share) / len(images), words=name)

        part(0)
        try:
            write_masks(Path(image["out"]), _segment(predictor, file, part))
        except Exception as error:  # of one image, whatever it is: the others are predicted
            say("left out", key=image["key"], reason=reason_for(file, error))
        else:
            seconds, classes = round(time.perf_counter() - begin, 2), list(predictor.class_names)
            say("image", key=image["key"], out=image["out"], seconds=seconds, classes=classes)


def _segment(predictor: Predictor, file: ImageFile, part: Callable[[float], None]) -> CropMasks:
    from maskseg.imaging.slides import is_large, open_source
    from maskseg.inference.tiling import TiledPredictor

    if not (isinstance(predictor, TiledPredictor) and is_large(file, predictor.tiles.large)):
        loaded = file.load()
        predictor = predictor.at_pixel_size(loaded.mpp, file.name)
        return predictor.segment(_seen(predictor, loaded.image, loaded.values))
    opened = open_source(file)
    source: Any = opened.source
    predictor = predictor.at_pixel_size(opened.mpp, file.name)
    with tempfile.TemporaryDirectory(prefix="maskseg-tiles-") as folder:
        return _segment_in_tiles(predictor, source, Path(folder), part)


def _seen(predictor: Predictor, image: NDArray[np.uint8], values: NDArray[Any]) -> NDArray[Any]:
    """What a model is given of an image: fixed limits are those of the values in the file."""
    return values if fixed_limits(predictor.cfg.INPUT.NORMALIZE) and values.dtype != bool else image


def _segment_in_tiles(
    predictor: TiledPredictor, source: Source, folder: Path, part: Callable[[float], None]
) -> CropMasks:
    from maskseg.inference.tiling import TiledImage

    image = TiledImage(predictor, source, folder, None, predictor.tiles.side, predictor.tiles.overlap)
    total = len(image.tiling)
    ended = threading.Event()

    def watch() -> None:
        # Each tile that is done has a file.
        while not ended.wait(0.5):
            part(min(0.99, len(list(folder.iterdir())) / total))

    threading.Thread(target=watch, daemon=True).start()
    try:
        image.predict()
    finally:
        ended.set()
    return CropMasks.joined(source.shape, [masks for masks, _ in image.settled()])


def score(task: Task, say: Say) -> None:
    """Score models on the records of a data set, and give what each of them finds there."""
    from maskseg.data.dataset import MICRONS, dataset_dicts, load_record
    from maskseg.evaluation.evaluator import NucleusEvaluator

    records = dataset_dicts(task["data"])
    for number, model in enumerate(task["models"]):
        predictor, evaluator = _model({"model": model}), NucleusEvaluator()
        found = {}
        for place, record in enumerate(records):
            done = (number + place / len(records)) / len(task["models"])
            say("progress", done=done, words=f"scoring {record['image_id']}")
            image, truth = load_record(record)
            masks = predictor.at_pixel_size(record.get(MICRONS), record["file_name"]).segment(image)
            evaluator.add(record, truth, masks)
            out = Path(task["out"]) / f"{number}-{record['image_id']}.npz"
            write_masks(out, masks)
            found[record["image_id"]] = str(out)
        say("score", model=model, score=evaluator.summary()["dsb_score"], found=found)


def _received(sent: dict[str, Any]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(sent["data"]), sent["dtype"]).reshape(sent["shape"])


def ask(task: Task, say: Say) -> None:
    """Outline what a person points at; see `maskseg.serve.ask`."""
    from maskseg.serve.ask import at_point, in_box
    from maskseg.serve.nuclei import Nucleus

    predictor = _model(task)
    if "pixels" not in task:
        return  # only to have the model at hand
    pixels = _received(task["pixels"])
    image = _seen(predictor, pixels, _received(task["values"]) if "values" in task else pixels)
    if "box" in task:
        masks = in_box(predictor, image, tuple(task["box"]))
    else:
        masks = at_point(predictor, image, tuple(task["point"]), task["size"])
    kind = int(masks.classes[0])
    nucleus = Nucleus(tuple(masks.boxes[0].tolist()), masks.bitmaps[0], float(masks.scores[0]), kind)
    say("mask", mask=to_json(nucleus), classes=list(predictor.class_names))


_TASKS: dict[str, Callable[[Task, Say], None]] = {"predict": predict, "score": score, "ask": ask}


def main() -> None:
    """Do the tasks that come, one after the other."""
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # Nor must a process that a library forks wait for a lock of the thread that reads the tasks.
    given = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    if hasattr(os, "nice"):
        os.nice(5)  # the page stays quick meanwhile
    lock = threading.Lock()
    tasks: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in given:
            tasks.put(line)
        os._exit(0)

    def say(event: str, **data: Any) -> None:
        with lock:
            answers.write(json.dumps({"event": event, **data}) + "\n")
            answers.flush()

    threading.Thread(target=read, daemon=True).start()
    while (line := tasks.get()) is not None:
        task = json.loads(line)
        try:
            _TASKS[task["do"]](task, say)
        except InputError as error:
            say("error", reason=str(error))
        except MemoryError:
            say("error", reason="not enough memory for this image; close other programs, or cut it into pieces")
        except Exception as error:  # a bug is shown on the page, and its traceback on the terminal
            logging.exception("a task of the page")
            say("error", reason=f"it failed ({type(error).__name__}: {' '.join(str(error).split())[:200]})")
        else:
            say("done")


if __name__ == "__main__":
    main()
