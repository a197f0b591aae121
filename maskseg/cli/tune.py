"""``maskseg tune``: the thresholds and rules of prediction chosen by search."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from maskseg.cli.say import say


class SearchBy(StrEnum):
    """How the settings are searched."""

    grid = "grid"
    optuna = "optuna"


def tune(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATASET:PART...", help="Images with true nuclei to choose on, of one set or several."),
    ],
    model: Annotated[str, typer.Option(help="Training folder, weight file or bundled name.")] = "nuclei",
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Folder for table, plot and detections; RUN/tune if not given.")
    ] = None,
    search: Annotated[
        SearchBy, typer.Option(help="One key after the other, or Optuna over all at once.")
    ] = SearchBy.grid,
    trials: Annotated[int, typer.Option(min=10, help="Trials of Optuna, for each fold and for the choice.")] = 150,
    folds: Annotated[int, typer.Option(min=2, help="Folds that measure the gain on images not chosen on.")] = 5,
    seed: Annotated[int, typer.Option(help="Of the folds and of Optuna.")] = 1,
) -> None:
    """Choose score and mask thresholds, suppression, views and clean-up rules by search.

    The network runs once over the images (its detections are kept in OUT/detections and used again); a trial then
    takes a second or so. The gain is cross-validated: measured on images that the choice did not see. If there is
    one, a training folder gets postprocess.yaml, which maskseg predict and models export follow; of a one-file model
    OUT gets a copy that holds the settings. trials.csv and tune.png show how the score depends on each setting.
    Of several sets every image counts alike.

    \b
    Examples:
      maskseg tune data/dsb2018:dev --model runs/nuclei_R_18_FPN
      maskseg tune data/mine:dev data/theirs:dev --model nuclei -o tuned/ --search optuna
      maskseg predict images/ -o out/ --model tuned/nuclei.safetensors
    """
    from maskseg.core.errors import InputError
    from maskseg.data.dataset import dataset_dicts
    from maskseg.evaluation.tune import Trials, optuna_search, search_grid
    from maskseg.evaluation.tune import tune as run
    from maskseg.evaluation.tune_output import settings_table, summary, write_plot, write_settings, write_trials
    from maskseg.models.zoo import SETTINGS_FILE, export, find_model

    start = find_model(model)
    in_one_file = start.weights.suffix == ".safetensors"
    if out is None:
        if in_one_file:
            raise InputError(f"{model} is one file with its settings inside: name a folder for the tuned copy with -o")
        out = start.weights.parent / "tune"
    method = search_grid if search is SearchBy.grid else optuna_search(trials, seed)
    # Two sets may have an image of one name.
    named = [
        (f"{place} {record['image_id']}", record) for place, spec in enumerate(data) for record in dataset_dicts(spec)
    ]
    records = [record for _, record in named]
    names = ", ".join(data)
    if len(records) < folds:
        raise InputError(f"{names}: {len(records)} images do not make {folds} folds; give more images or fewer --folds")
    modalities = [record["modality"] for record in records]
    tried = Trials(start, records, out / "detections")
    tuned = run(tried, method, [name for name, _ in named], modalities, folds, seed)
    write_plot(out / "tune.png", tried, tuned)
    write_trials(out / "trials.csv", tried, modalities)
    say(settings_table(tuned))
    say(summary(tuned, names))
    say(f"{len(tried.done)} trials: {out / 'trials.csv'}, {out / 'tune.png'}")
    if tuned.gain()[0] <= 0:
        say("no gain on images that the choice did not see: the settings stay as they are")
    elif in_one_file:
        copy = out / start.weights.name
        export(model, copy, [str(item) for pair in tuned.best.items() for item in pair])
        say(f"the model with these settings: {copy}")
    else:
        path = start.weights.parent / SETTINGS_FILE
        write_settings(path, tuned, names)
        say(f"written: {path}; predict and models export follow it")
