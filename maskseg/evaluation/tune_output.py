"""What a search over the settings leaves behind: the settings as a config file, all trials as a table, a plot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from maskseg.core.figures import save_figure
from maskseg.core.files import write_whole
from maskseg.core.tables import write_csv
from maskseg.evaluation.dsb import text_table
from maskseg.evaluation.tune import Settings, Trials, Tuned, standard_error

_COLUMNS = 3  # of the plot


def settings_table(tuned: Tuned) -> str:
    """Every key with its present value, the chosen one, and those chosen without each fold."""
    rows = [["", "now", "chosen", "without each fold in turn"]]
    for key in tuned.own:
        by_fold = "  ".join(str(settings[key]) for settings in tuned.by_fold)
        rows.append([key.rpartition(".")[2], str(tuned.own[key]), str(tuned.best[key]), by_fold])
    return text_table(rows)


def summary(tuned: Tuned, data: str) -> str:
    """One line: the score now, on the images of the choice, and out of fold."""
    gain, low, high = tuned.gain()
    return (
        f"mean IoU (DSB score) on {data}, {len(tuned.before)} images: {tuned.before.mean():.4f} now, "
        f"{tuned.held_out.mean():.4f} on images that the choice did not see ({len(tuned.by_fold)} folds): "
        f"{gain:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}; {tuned.after.mean():.4f} on all images, seen"
    )


def write_settings(path: Path, tuned: Tuned, data: str) -> None:
    """Write the chosen settings as a config fragment that `maskseg.models.zoo.find_model` lays over the config."""
    with write_whole(path, "w", encoding="utf-8") as file:
        file.write(
            f"# Made by maskseg tune; delete the file to have the settings of config.yaml.\n# {summary(tuned, data)}\n"
        )
        yaml.safe_dump(nested(tuned.best), file, sort_keys=False)


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted keys as the sections of a config file."""
    sections: dict[str, Any] = {}
    for key, value in settings.items():
        *path, name = key.split(".")
        section = sections
        for part in path:
            section = section.setdefault(part, {})
        section[name] = value
    return sections


def write_trials(path: Path, trials: Trials, modalities: Sequence[str]) -> None:
    """Write all trials as CSV, the best first: the settings, the score of all images and of each modality."""
    modality = np.array(modalities)
    names = sorted(set(modalities) - {""})
    rows = sorted(trials.done.items(), key=lambda item: -item[1].mean())
    table = []
    for settings, scores in rows:
        means = (scores.mean(), *(scores[modality == name].mean() for name in names))
        table.append([*settings, *(f"{mean:.5f}" for mean in means)])
    write_csv(path, [*trials.space, "dsb_score", *names], table)


def write_plot(path: Path, trials: Trials, tuned: Tuned) -> None:
    """Write a PNG of the score against each key.

    A grey dot is a trial; the line goes through the chosen settings with that key alone changed, its band is a
    standard error of the difference from them over the images; a dashed line is at the present value.
    """
    from matplotlib.figure import Figure

    rows = -(-len(trials.space) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 2.9 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, sharey=True).ravel()
    best = tuple(tuned.best.values())
    lines = [_along(trials, best, place) for place in range(len(trials.space))]
    dots = [(settings, scores.mean()) for settings, scores in trials.done.items()]
    for place, (axis, (key, values), line) in enumerate(zip(axes, trials.space.items(), lines, strict=False)):
        at = np.arange(len(values))
        spread = np.random.default_rng(place).uniform(-0.18, 0.18, len(dots))
        axis.scatter([values.index(s[place]) for s, _ in dots] + spread, [y for _, y in dots], 6, "0.75", linewidths=0)
        error = np.array([standard_error(scores - tuned.after) for scores in line])
        means = np.array([scores.mean() for scores in line])
        axis.fill_between(at, means - error, means + error, color="tab:blue", alpha=0.2, linewidth=0)
        axis.plot(at, means, "o-", color="tab:blue", markersize=4)
        axis.plot(values.index(best[place]), tuned.after.mean(), "o", color="tab:red", markersize=8)
        axis.axvline(values.index(tuned.own[key]), color="0.3", linestyle="--", linewidth=1)
        axis.set_xticks(at, [str(value) for value in values])
        axis.set_title(key.rpartition(".")[2], fontsize=10)
    for axis in axes[len(trials.space) :]:
        axis.set_axis_off()
    lowest = min(tuned.before.mean(), *(scores.mean() for line in lines for scores in line))
    axes[0].set_ylim(lowest - 0.005, tuned.after.mean() + 0.015)
    figure.suptitle(
        "Dots: trials. Line: one setting changed from the chosen ones (red); band: standard error of the difference. "
        "Dashed: before.",
        fontsize=9,
    )
    figure.supylabel("mean IoU (DSB score)", fontsize=10)
    with write_whole(path) as file:
        save_figure(figure, file, format="png", dpi=110)


def _along(trials: Trials, best: Settings, place: int) -> list[NDArray[np.float64]]:
    values: Iterable[Any] = list(trials.space.values())[place]
    return [trials.scores((*best[:place], value, *best[place + 1 :])) for value in values]
