"""The corrections of one image: its nuclei, what was done to them, and the log from which all of it comes back."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.serve import edits
from maskseg.serve.log import Operation, OperationLog
from maskseg.serve.nuclei import After, Box, Nuclei, from_json, read_masks, to_json, write_masks

LOG = "edits.log"
FORMAT = "maskseg-edits-1"
# Diameter in pixels of a nucleus in an image of which nothing is known.
_GUESS = 30.0


class Stale(InputError):
    """An edit of nuclei that another window has changed meanwhile."""


@dataclass(frozen=True)
class Step:
    """What an operation did, in both directions.

    Attributes
    ----------
    name : str
        Of the operation.
    before, after : dict of number to Nucleus or None
    reviewed : (tuple of boxes, tuple of boxes), optional
        The reviewed regions before and after, where they changed.
    """

    name: str
    before: After
    after: After
    reviewed: tuple[tuple[Box, ...], tuple[Box, ...]] | None = None


@dataclass
class Change:
    """What the page has to show anew: numbers of nuclei, and whether it is all of them."""

    numbers: list[int] = field(default_factory=list)
    name: str = ""


class Session:
    """The nuclei of one image, each change to them on the disk before it is seen.

    Every method may be called from any thread.

    Parameters
    ----------
    folder : Path
        Holds the log and the predictions; made where it is missing.
    shape : (int, int)
        Height and width of the image in pixels.

    Attributes
    ----------
    nuclei : Nuclei
    reviewed : tuple of boxes
        Regions in which a person has looked at every nucleus.
    version : int
        Number of operations so far, undoing included.
    notice : str
        See `OperationLog`.
    class_names : dict of int to str
        What the log says that the class numbers were called when nuclei got them.

    Raises
    ------
    InputError
        If the log is of another image or of a later maskseg.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        self.folder, self.lock = folder, RLock()
        self.nuclei = Nuclei(shape)
        self.reviewed: tuple[Box, ...] = ()
        self.version = 0
        self.class_names: dict[int, str] = {}
        self._steps: list[Step] = []
        # The nuclei that each operation changed.
        self._touched: list[frozenset[int]] = []
        self._place = 0
        self._log = OperationLog(folder / LOG)
        self.notice = self._log.notice
        if not self._log.operations:
            self._log.append({"format": FORMAT, "shape": list(shape)})
        else:
            head, *operations = self._log.operations
            if head.get("format") != FORMAT:
                raise InputError(f"{folder / LOG}: corrections of another maskseg ({head.get('format')}); upgrade it")
            self.nuclei.shape = (head["shape"][0], head["shape"][1])
            self.belongs_to(shape)
            for operation in operations:
                self._replay(operation)
        self._log.operations.clear()

    def belongs_to(self, shape: tuple[int, int]) -> None:
        """Make sure that the corrections are of an image of that height and width.

        Raises
        ------
        InputError
            If they are of another: the file has changed since.
        """
        height, width = self.nuclei.shape
        if (height, width) != tuple(shape):
            raise InputError(
                f"{self.folder / LOG}: corrections of an image of {width} x {height} pixels, but it has {shape[1]} x "
                f"{shape[0]} now; put the former image back, or move the folder away"
            )

    # ---- changing ----

    def edit(
        self, name: str, given: dict[str, Any], version: int | None = None, classes: Mapping[int, str] | None = None
    ) -> Change:
        """Do one of `edits.EDITS`.

        Parameters
        ----------
        name : str
        given : dict
            What the edit takes beside the nuclei.
        version : int, optional
            That of the nuclei which the person saw; see `Stale`.
        classes : mapping of int to str, optional
            Names of the classes that it gives, for the log.

        Raises
        ------
        InputError
            If it cannot be done, or not be written: nothing has changed then.
        """
        with self.lock:
            self._check(version, given.get("ids") or [given.get("id")])
            return self._do(name, edits.EDITS[name](self.nuclei, **given), given, classes)

    def add_mask(self, masks: CropMasks, given: dict[str, Any], classes: Mapping[int, str] | None = None) -> Change:
        """Add the one mask that the network has found where `given` says; `classes` as for `edit`."""
        with self.lock:
            return self._do("add", edits.add_mask(self.nuclei, masks), given, classes)

    def predicted(self, masks: CropMasks, model: str, classes: Mapping[int, str] | None = None) -> Change:
        """Take over what a model has found in the image; see `edits.predicted`.

        Parameters
        ----------
        masks : CropMasks
        model : str
        classes : mapping of int to str, optional
            Numbers and names of the model's classes, in its order; without them the nuclei get none.
        """
        with self.lock:
            numbers = np.array(list(classes or ()) or [0], np.int32)
            masks = replace(masks, classes=numbers[masks.classes if classes else np.zeros(len(masks), np.int32)])
            kept, added = edits.predicted(self.nuclei, masks, self.reviewed)
            file = f"predicted-{self.version + 1}-{os.urandom(4).hex()}.npz"
            write_masks(self.folder / file, _masks(self.nuclei.shape, added))
            operation = {"op": "predict", "model": model, "file": file, "kept": kept, "first": self.nuclei.next_id}
            operation |= _said(classes)
            return self._run(operation, self._predict_step(operation, added))

    def review(self, box: Box | None, on: bool) -> Change:
        """Mark a region, or with None the whole image, as reviewed or not."""
        with self.lock:
            height, width = self.nuclei.shape
            whole = (0, 0, width, height)
            wanted = whole if box is None else edits.inside(box, self.nuclei.shape)
            if wanted[2] - wanted[0] < 16 or wanted[3] - wanted[1] < 16:
                raise InputError("a region to review has 16 pixels or more on each side")
            others = tuple(region for region in self.reviewed if not _covers(wanted, region))
            after = (*others, wanted) if on else others if box is not None else ()
            if on and any(_covers(region, wanted) for region in others):
                after = others
            operation = {"op": "review", "reviewed": [list(region) for region in after]}
            return self._run(operation, Step("review", {}, {}, (self.reviewed, after)))

    def undo(self) -> Change:
        """Take the last operation back."""
        with self.lock:
            if not self._place:
                raise InputError("nothing to undo")
            self._log.append({"op": "undo"})
            return self._undo()

    def redo(self) -> Change:
        """Do again what was taken back last."""
        with self.lock:
            if self._place == len(self._steps):
                raise InputError("nothing to redo")
            self._log.append({"op": "redo"})
            return self._redo()

    def close(self) -> None:
        """Let go of the log."""
        with self.lock:
            self._log.close()

    # ---- reading ----

    @property
    def undoable(self) -> str:
        """Name of what `undo` would take back; empty where there is nothing."""
        return self._steps[self._place - 1].name if self._place else ""

    @property
    def redoable(self) -> str:
        """Name of what `redo` would do again."""
        return self._steps[self._place].name if self._place < len(self._steps) else ""

    def doubt(self) -> float | None:
        """How unsure the model is of this image: the mean of 1 - score; None once a person has been here."""
        with self.lock:
            if self.reviewed or any(nucleus.by_hand for nucleus in self.nuclei):
                return None
            scores = [nucleus.score for nucleus in self.nuclei]
        # An image in which nothing was found is one to look at too.
        return 1 - sum(scores) / len(scores) if scores else 0.5

    def kinds(self) -> set[int]:
        """Numbers of the classes that the nuclei have, without 0."""
        with self.lock:
            return {nucleus.kind for nucleus in self.nuclei} - {0}

    def typical(self) -> float:
        """Diameter in pixels of the median nucleus; a guess where there is none yet."""
        with self.lock:
            area = self.nuclei.median_area()
        return float(np.sqrt(4 / np.pi * area)) if area else _GUESS

    # ---- inside ----

    def _check(self, version: int | None, ids: Sequence[int | None]) -> None:
        if version is None or version == self.version:
            return
        # What another window did to other nuclei is no obstacle.
        changed = set().union(*self._touched[version:]) if 0 <= version < self.version else set(ids)
        if any(number in changed or number not in self.nuclei for number in ids if number is not None):
            raise Stale("another window has changed this nucleus meanwhile; look at it again")

    def _do(self, name: str, after: After, given: dict[str, Any], classes: Mapping[int, str] | None = None) -> Change:
        if not after:
            return Change([], name)
        operation = {"op": name, "given": given, "after": {str(n): to_json(nucleus) for n, nucleus in after.items()}}
        return self._run(operation | _said(classes), Step(name, self._before(after), after))

    def _run(self, operation: Operation, step: Step) -> Change:
        # First the disk, then the memory: what cannot be written has not happened.
        self._log.append({**operation, "time": round(time.time(), 3)})
        self._learn(operation)
        return self._take(step)

    def _learn(self, operation: Operation) -> None:
        self.class_names |= {int(kind): name for kind, name in operation.get("classes", {}).items()}

    def _take(self, step: Step) -> Change:
        del self._steps[self._place :]
        self._steps.append(step)
        return self._redo()

    def _redo(self) -> Change:
        step = self._steps[self._place]
        self._place += 1
        return self._set(step, step.after, 1)

    def _undo(self) -> Change:
        self._place -= 1
        step = self._steps[self._place]
        return self._set(step, step.before, 0)

    def _set(self, step: Step, nuclei: After, side: int) -> Change:
        self.nuclei.put(nuclei)
        if step.reviewed is not None:
            self.reviewed = step.reviewed[side]
        self.version += 1
        self._touched.append(frozenset(nuclei))
        return Change(list(nuclei), step.name)

    def _before(self, after: After) -> After:
        return {number: self.nuclei.get(number) for number in after}

    def _predict_step(self, operation: Operation, added: After) -> Step:
        kept = set(operation["kept"])
        gone = [number for number in self.nuclei.masks()[0] if number not in kept]
        after = {**dict.fromkeys(gone), **added}
        return Step("predict", self._before(after), after)

    def _predicted_masks(self, operation: Operation) -> CropMasks:
        """The nuclei of a prediction; none, and a notice, where their file is gone: what a person did stays."""
        try:
            return read_masks(self.folder / Path(operation["file"]).name)
        except InputError as error:
            self.notice = str(error)
            return CropMasks.empty(self.nuclei.shape)

    def _replay(self, operation: Operation) -> None:
        name = operation["op"]
        self._learn(operation)
        if name == "undo":
            self._undo()
        elif name == "redo":
            self._redo()
        elif name == "review":
            after = tuple(tuple(box) for box in operation["reviewed"])
            self._take(Step("review", {}, {}, (self.reviewed, after)))
        elif name == "predict":
            masks = self._predicted_masks(operation)
            rows = zip(masks.boxes.tolist(), masks.bitmaps, masks.scores.tolist(), masks.classes.tolist(), strict=True)
            added: After = {
                number: edits.Nucleus(tuple(box), bitmap, round(score, 4), kind, by_hand=False)
                for number, (box, bitmap, score, kind) in enumerate(rows, start=operation["first"])
            }
            self._take(self._predict_step(operation, added))
        else:
            after_edit = {int(number): from_json(data) for number, data in operation["after"].items()}
            self._take(Step(name, self._before(after_edit), after_edit))


def _said(classes: Mapping[int, str] | None) -> Operation:
    """Names of classes in an operation: the list of them may be lost, the log is not."""
    return {"classes": {str(kind): name for kind, name in classes.items()}} if classes else {}


def _covers(outer: Box, inner: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]


def _masks(shape: tuple[int, int], nuclei: After) -> CropMasks:
    made = Nuclei(shape)
    made.put(nuclei)
    return made.masks()[1]
