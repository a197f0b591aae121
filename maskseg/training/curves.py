"""What a training wrote about itself: ``metrics.json`` as a table and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import JSONWriter, TensorboardXWriter

from maskseg.core.figures import save_figure
from maskseg.core.files import named_if_full, remove_leftovers, write_whole
from maskseg.core.tables import write_csv

METRICS, TABLE, PICTURE = "metrics.json", "metrics.csv", "curves.png"
# Values that Detectron2's writers take the median of.
_WINDOW = 20
# Those that are drawn, where they are written: the sum, and of Mask R-CNN's five the three that say most.
_LOSSES = ("total_loss", "loss_rpn_cls", "loss_box_reg", "loss_mask")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Lines of a training's metrics.json by iteration; a line that was cut short by a kill is left out."""
    rows: dict[int, dict[str, Any]] = {}
    path = folder / METRICS
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and isinstance(row.get("iteration"), int):
            rows[row["iteration"]] = {**rows.get(row["iteration"], {}), **row}
    return [rows[iteration] for iteration in sorted(rows)]


def forget_from(folder: Path, iteration: int) -> None:
    """Leave only the lines before an iteration: those that a resumed training does not write again."""
    rows = [row for row in read_metrics(folder) if row["iteration"] < iteration]
    with write_whole(folder / METRICS, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, sort_keys=True) + "\n" for row in rows)


def write_table(folder: Path, rows: list[dict[str, Any]]) -> None:
    """``metrics.csv``: a row a line of metrics.json, empty where a figure was not taken."""
    names = sorted({key for row in rows for key in row} - {"iteration"})
    write_csv(folder / TABLE, ["iteration", *names], rows)


def draw(folder: Path, rows: list[dict[str, Any]]) -> None:
    """``curves.png``: the losses in training and validation, the score, the learning rate."""
    from matplotlib.figure import Figure

    written = {key for row in rows for key in row}
    losses = [name for name in _LOSSES if name in written]
    scores = [key for key in sorted(written) if key.startswith("validation/") and "loss" not in key]
    names = [*losses, *scores, "lr"]
    lines = -(-len(names) // 3)
    figure = Figure(figsize=(12, 3.5 * lines), layout="constrained")
    axes = figure.subplots(lines, 3, squeeze=False).ravel()
    for axis in axes[len(names) :]:
        axis.remove()
    for axis, name in zip(axes, names, strict=False):
        validation = name in losses
        for key, label in ((name, "training"), (f"validation/{name}", "validation"))[: 1 + validation]:
            points = [(row["iteration"] + 1, row[key]) for row in rows if key in row]
            if points:
                marker = "o" if key.startswith("validation") else ""
                axis.plot(*zip(*points, strict=True), marker=marker, markersize=3, label=label)
        axis.set_title("mean IoU (DSB score), validation" if name.endswith("dsb_score") else name)
        axis.set_xlabel("iteration")
        if validation and axis.lines:
            axis.legend()
    with write_whole(folder / PICTURE) as file:
        save_figure(figure, file, format="png", dpi=100)


class Log(PeriodicWriter):
    """Writes ``metrics.json`` (a line each 20 iterations), TensorBoard files, ``metrics.csv`` and ``curves.png``.

    Parameters
    ----------
    folder : Path
        Of the training.
    period : int
        Iterations between two pictures; 0 is only one at the end.
    """

    def __init__(self, folder: Path, period: int) -> None:
        super().__init__([])
        self.folder = folder
        self.period = period
        self._before: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """The last iteration that is written, and what the next lines are smoothed with: name -> hint, values."""
        if not self._writers:  # not begun
            return self._before
        storage = self.trainer.storage
        hints = storage.smoothing_hints()
        recent = {
            name: (hints[name], past.values()[-_WINDOW:])
            for name, past in storage.histories().items()
            if not name.endswith("time")  # those begin anew, on a machine that may be another
        }
        return {"written": self._writers[0]._last_write, "recent": recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up the record of a resumed training."""
        self._before = state

    def tidy(self) -> None:
        """Leave of what a training that was killed has written only what it will not write again, and draw it."""
        remove_leftovers(self.folder, (METRICS, TABLE, PICTURE))
        forget_from(self.folder, self._before.get("written", self.trainer.start_iter - 1) + 1)
        self.summarise()

    def before_train(self) -> None:
        """Open the files and go on as if there had been no break."""
        self.tidy()
        # TensorBoard leaves out of its older files what is written again.
        purge = {"purge_step": self.trainer.start_iter} if self.trainer.start_iter else {}
        with named_if_full(self.folder / METRICS):
            self._writers = [JSONWriter(str(self.folder / METRICS)), TensorboardXWriter(str(self.folder), **purge)]
        storage = self.trainer.storage
        for name, (hint, values) in self._before.get("recent", {}).items():
            for value, storage.iter in values:
                storage.put_scalar(name, value, smoothing_hint=hint)
        storage.iter = self.trainer.start_iter
        for writer in self._writers:
            writer._last_write = self._before.get("written", -1)

    def after_step(self) -> None:
        """Write what is due."""
        with named_if_full(self.folder / METRICS):
            super().after_step()
        if self.period > 0 and (self.trainer.iter + 1) % self.period == 0:
            self.summarise()

    def after_train(self) -> None:
        """Write the rest."""
        with named_if_full(self.folder / METRICS):
            super().after_train()
        self.summarise()

    def summarise(self) -> None:
        """Write the table and the picture."""
        rows = read_metrics(self.folder)
        if rows:
            write_table(self.folder, rows)
            draw(self.folder, rows)
