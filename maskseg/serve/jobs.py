"""Long work, one job at a time in child processes, in a queue that the page shows and from which jobs can be taken."""

from __future__ import annotations

import itertools
import json
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.serve.child import Cancelled, Child
from maskseg.serve.classes import numbers_of
from maskseg.serve.events import Events
from maskseg.serve.nuclei import read_masks
from maskseg.serve.retrain import HELD, TRAIN, make_data_set, next_folder, progress
from maskseg.serve.workspace import NotFound, Workspace

State = Literal["waiting", "running", "done", "failed", "cancelled"]
# Seconds that a training has to end by itself, with a checkpoint, before it is killed.
_PATIENCE = 10
# Ended jobs that are remembered.
_REMEMBERED = 100
RESULT = "result.json"


@dataclass
class Job:
    """A piece of long work.

    Attributes
    ----------
    id : int
    kind : {"predict", "train"}
    given : dict
        What was asked for.
    state : str
    done : float
        Share that is done, 0 to 1.
    words : str
        What it does now, or why it failed.
    result : dict
        For a prediction the keys ``images`` and ``left_out``; for a training those of `result.json`, ``left_out`` too.
    """

    id: int
    kind: Literal["predict", "train"]
    given: dict[str, Any]
    state: State = "waiting"
    done: float = 0.0
    words: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    cancel: threading.Event = field(default_factory=threading.Event, repr=False)

    def as_json(self) -> dict[str, Any]:
        """What the page and the API see."""
        names = ("id", "kind", "given", "state", "done", "words", "result")
        return {name: getattr(self, name) for name in names}


class Jobs:
    """The queue and the thread that works on it.

    Parameters
    ----------
    workspace : Workspace
    events : Events
    """

    def __init__(self, workspace: Workspace, events: Events) -> None:
        self.workspace, self.events = workspace, events
        self._jobs: dict[int, Job] = {}
        self._numbers = itertools.count(1)
        self._waiting: queue.Queue[Job | None] = queue.Queue()
        self._child = Child()
        self._training: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    # ---- asked by the page ----

    def predict(self, keys: Sequence[str], model: str | None = None) -> Job:
        """Have images predicted.

        Raises
        ------
        NotFound
            If there is no such image.
        """
        for key in keys:
            self.workspace.item(key)
        if model is not None and model not in self.workspace.models:
            raise NotFound(f"there is no model {model[:80]!r}; those known are {', '.join(self.workspace.models)}")
        return self._put("predict", {"images": list(dict.fromkeys(keys)), "model": model or self.workspace.model})

    def train(self, iterations: int | None = None) -> Job:
        """Have the model learn from the corrections."""
        return self._put("train", {"iterations": iterations, "model": self.workspace.model})

    def all(self) -> list[Job]:
        """All jobs, the latest last."""
        return list(self._jobs.values())

    def job(self, number: int) -> Job:
        """A job by its number.

        Raises
        ------
        NotFound
        """
        if number not in self._jobs:
            raise NotFound("there is no such job")
        return self._jobs[number]

    def cancel(self, number: int) -> Job:
        """Take a job from the queue, or end it; nothing happens to one that has ended."""
        job = self.job(number)
        with self._lock:
            job.cancel.set()
            if job.state == "running":
                self._child.stop()
                if self._training is not None:
                    self._training.terminate()
            elif job.state == "waiting":
                self._say(job, state="cancelled")
        return job

    def decide(self, number: int, keep: bool) -> Job:
        """Keep the model of a training, which then predicts, or throw it away.

        Raises
        ------
        InputError
            If it is no training that waits for the decision.
        """
        job = self.job(number)
        with self._lock:
            if job.kind != "train" or job.state != "done" or job.result.get("decision"):
                raise InputError("this is no training that waits for a decision")
            if keep:
                self.workspace.use(job.result["model"])
            else:
                shutil.rmtree(Path(job.result["folder"]), ignore_errors=True)
            job.result["decision"] = "kept" if keep else "thrown away"
            self._say(job)
            return job

    def close(self) -> None:
        """End what runs."""
        for job in self.all():
            self.cancel(job.id)
        self._waiting.put(None)
        self._child.stop()
        self._thread.join(_PATIENCE + 2)

    # ---- at work ----

    def _put(self, kind: Literal["predict", "train"], given: dict[str, Any]) -> Job:
        job = Job(next(self._numbers), kind, given)
        ended = [one.id for one in self._jobs.values() if one.state not in ("waiting", "running")]
        for number in ended[: max(0, len(self._jobs) - _REMEMBERED)]:
            del self._jobs[number]
        self._jobs[job.id] = job
        self._say(job)
        self._waiting.put(job)
        return job

    def _say(self, job: Job, **changes: Any) -> None:
        for name, value in changes.items():
            setattr(job, name, value)
        self.events.send("job", job.as_json())

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            with self._lock:
                if job.cancel.is_set():
                    continue
                job.state = "running"
            self._say(job)
            try:
                (self._predict if job.kind == "predict" else self._train)(job)
            except Cancelled:
                self._say(job, state="cancelled", words="")
            except InputError as error:
                self._say(job, state="failed", words=str(error))
            except Exception as error:  # the queue goes on, whatever one job does
                self._say(job, state="failed", words=f"it failed ({type(error).__name__}: {error})")
                sys.excepthook(type(error), error, error.__traceback__)
            else:
                self._say(job, state="done", done=1.0, words="")

    def _predict(self, job: Job) -> None:
        done: list[str] = []
        left_out: dict[str, str] = {}
        job.result = {"images": done, "left_out": left_out}
        model = job.given["model"]
        with tempfile.TemporaryDirectory(prefix=".predict-", dir=self.workspace.folder) as folder:
            images = []
            for key in job.given["images"]:
                file = self.workspace.item(key).file
                out = str(Path(folder) / f"{key}.npz")
                image = {"key": key, "path": str(file.path.absolute()), "member": file.member, "out": out}
                images.append(image | {"channel": file.choice.channel, "planes": dict(file.choice.planes)})
            for answer in self._child.run({"do": "predict", "model": model, "images": images}):
                if job.cancel.is_set():
                    self._child.stop()
                if answer["event"] == "progress":
                    self._say(job, done=answer["done"], words=answer["words"])
                    continue
                key = answer["key"]
                try:
                    if answer["event"] == "left out":
                        raise InputError(answer["reason"])
                    session = self.workspace.session(key)
                    classes = numbers_of(answer["classes"], self.workspace.classes)
                    session.predicted(read_masks(Path(answer["out"])), Path(model).name, classes)
                    if classes:
                        self.events.send("classes", {"classes": self.workspace.classes.rows()})
                except InputError as error:
                    left_out[key] = str(error)
                    self.workspace.item(key).fault = str(error)
                else:
                    done.append(key)
                    self.events.send("edited", {"key": key, "version": session.version})
                self.events.send("images", {"key": key})

    def _train(self, job: Job) -> None:
        folder = next_folder(self.workspace)
        try:
            self._train_in(job, folder)
        except BaseException:
            # Of a training that came to nothing nothing is kept.
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def _train_in(self, job: Job, folder: Path) -> None:
        self._say(job, words="gathering the corrections")
        data = make_data_set(self.workspace, folder / "data")
        model, run = job.given["model"], folder / "model"
        job.result = {
            "folder": str(folder),
            "model": str(run),
            "train": data.train,
            "held": data.held,
            "nuclei": data.nuclei,
            "losses": [],
            "left_out": data.left_out,
        }
        options = []
        if job.given["iterations"]:
            few = job.given["iterations"]
            options = ["SOLVER.MAX_ITER", str(few), "SOLVER.WARMUP_ITERS", str(max(1, few // 10))]
        command = [sys.executable, "-m", "maskseg.serve.bound", "train", "--from", model]
        command += ["--data", f"{data.folder}:{TRAIN}", "-o", str(run), *options]
        self._run_training(job, command, run, folder / "training.log")
        if data.held:
            try:
                self._score(job, model, run, folder)
            except InputError as error:
                # What was trained is there, if without a score.
                job.result["unscored"] = str(error)
        with write_whole(folder / RESULT, "w", encoding="utf-8") as file:
            json.dump(job.result, file)

    def _run_training(self, job: Job, command: list[str], run: Path, log: Path) -> None:
        with log.open("wb") as output, self._lock:
            if job.cancel.is_set():
                raise Cancelled
            self._training = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
        training = self._training
        try:
            while training.poll() is None:
                try:
                    training.wait(_PATIENCE if job.cancel.is_set() else 0.5)
                except subprocess.TimeoutExpired:
                    if job.cancel.is_set():
                        training.kill()
                iterations, wanted, losses = progress(run)
                job.result["losses"] = losses
                words = f"{iterations} of {wanted} iterations" if wanted else "loading the model"
                # The scores of before and after take the rest.
                self._say(job, done=0.9 * iterations / max(wanted, 1), words=words)
        finally:
            self._training = None
        if job.cancel.is_set():
            raise Cancelled
        if training.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = [line for line in lines if line.startswith("maskseg: error:")] or lines[-1:] or ["no word"]
            raise InputError(f"the training ended early: {said[-1].removeprefix('maskseg: error: ')[:300]}")

    def _score(self, job: Job, model: str, run: Path, folder: Path) -> None:
        found = folder / "found"
        found.mkdir(exist_ok=True)
        task = {"do": "score", "data": f"{folder / 'data'}:{HELD}", "models": [model, str(run)], "out": str(found)}
        for answer in self._child.run(task):
            if job.cancel.is_set():
                self._child.stop()
            if answer["event"] == "progress":
                self._say(job, done=0.9 + 0.1 * answer["done"], words=answer["words"])
            elif answer["event"] == "score":
                which = "before" if answer["model"] == model else "after"
                job.result[which] = answer["score"]
                job.result.setdefault("images", sorted(answer["found"]))
