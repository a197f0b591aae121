"""The table of nuclei as AnnData, the form in which scverse tools (scanpy, squidpy) have cells.

One observation is a nucleus and one variable a channel:

- ``X``: mean intensity of the nucleus; with cells, ``layers["ring"]`` and ``layers["cell"]`` have theirs;
- ``obs``: all columns of the table that are no mean intensities; ``obs["image_id"]`` says of which image it is;
- ``obsm["spatial"]``: centre, x and y in pixels of the image;
- ``var_names``: names of the channels where the files give them, otherwise ``channel_0`` ...
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskseg.core.files import being_written, named_if_full, write_whole
from maskseg.core.optional import need
from maskseg.formats.nuclei_table import tables
from maskseg.formats.writer import Joined

_MEAN = re.compile(r"(?:(ring|cell)_)?intensity_mean_(\d+)")


def join_anndata(paths: Sequence[Path], images: Iterable[Joined]) -> None:
    """Write the nuclei of all images as AnnData; images are taken one at a time, the nuclei are held in memory.

    Raises
    ------
    InputError
        anndata is not installed, or the file cannot be written.
    """
    anndata = need("anndata", "anndata", "--formats anndata")
    import pandas as pd

    (path,) = paths
    with tables(images) as rows:
        frame = pd.DataFrame(list(rows.nuclei), columns=list(rows.columns))
        channels = rows.channels
    means: dict[str, Any] = {}
    for column, kind in rows.columns.items():
        if named := _MEAN.fullmatch(column):
            if int(named[2]) < len(channels):
                means.setdefault(named[1] or "", []).append(frame[column].to_numpy(np.float32))
            del frame[column]
        elif kind is float:
            frame[column] = frame[column].astype(np.float64)
        elif kind is str:
            # Of Python's own strings: those of pandas 3 are not written by every version of anndata.
            frame[column] = pd.Categorical(frame[column].astype(object))
    layers = {part: _table(values, len(frame)) for part, values in means.items()}
    whole = layers.pop("", np.zeros((len(frame), 0), np.float32))
    spatial = frame[["centroid_x", "centroid_y"]].to_numpy(np.float64)
    # Of several images a label alone names no nucleus.
    names = [f"{image}:{label}" for image, label in zip(frame["image_id"], frame["label"], strict=True)]
    frame.index, frame.columns = pd.Index(names, dtype=object), pd.Index(list(frame.columns), dtype=object)
    data = anndata.AnnData(
        X=whole,
        obs=frame,
        var=pd.DataFrame(index=pd.Index(_names(channels), dtype=object)),
        layers=layers,
        obsm={"spatial": spatial},
    )
    # It writes to a path only: one beside, which the next run sweeps where this one is killed.
    with named_if_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=being_written(path), dir=path.parent) as folder:
            made = Path(folder) / path.name
            data.write_h5ad(made)
            with write_whole(path) as file, made.open("rb") as written:
                shutil.copyfileobj(written, file)


def _table(columns: list[Any], rows: int) -> Any:
    """Columns as a table, float32 (rows, C)."""
    return np.stack(columns, axis=1) if columns else np.zeros((rows, 0), np.float32)


def _names(channels: Sequence[str]) -> list[str]:
    """Names of channels that are not empty, and each once."""
    names = [name or f"channel_{number}" for number, name in enumerate(channels)]
    return [name if names.index(name) == number else f"{name}_{number}" for number, name in enumerate(names)]
