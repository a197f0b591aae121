"""Pictures of what two models find in the same images, side by side: truth red, found blue, dashed where they agree.

    python benchmarks/before_after.py nuclei-0.1.0.safetensors nuclei data/dsb2018:dev data/other/nuinsseg:dev ...
        [--number 24] -o docs/before_after.jpg

Takes as many images of each data set, evenly over its groups and the order of their names, and shows the middle of
large ones; above each pair is its F1 at IoU 0.5 by either model, of the whole image. Prints the same as a table.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tabulate import tabulate

from maskseg.core.files import write_whole
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.dsb import image_scores
from maskseg.formats.overlay import overlay, panel
from maskseg.inference.api import load_model

# Side in pixels of what is shown of an image.
_SHOWN = 256


def middle(pixels: NDArray[Any]) -> NDArray[Any]:
    """The middle of an image (H, W) or (H, W, C)."""
    top, left = (max(side - _SHOWN, 0) // 2 for side in pixels.shape[:2])
    return pixels[top : top + _SHOWN, left : left + _SHOWN]


def chosen(part: str, count: int) -> list[dict[str, Any]]:
    """So many images of a part, evenly over its groups."""
    records = sorted(dataset_dicts(part), key=lambda record: (str(record.get("group", "")), record["image_id"]))
    places = np.unique(np.linspace(0, len(records) - 1, count).astype(int))
    return [records[place] for place in places]


def main() -> None:
    """Predict, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("parts", nargs="+", metavar="DIR:PART")
    parser.add_argument("--number", type=int, default=24)
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    models, pictures, rows = [load_model(options.before), load_model(options.after)], [], []
    for part in options.parts:
        for record in chosen(part, -(-options.number // len(options.parts))):
            image, truth = load_record(record)
            scores, halves = [], []
            for model in models:
                found = model.segment(image).to_labels()
                scores.append(image_scores(truth, found)["f1_50"])
                halves.append(overlay(middle(image), middle(truth), middle(found)))
            name = Path(part.partition(":")[0]).name
            rows.append([name, record["image_id"][:24], *scores])
            pictures.append((f"{name}: F1 {scores[0]:.2f}, now {scores[1]:.2f}", np.hstack(halves)))
    sheet, file = panel(pictures[: options.number], columns=3, cell=560), io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=80)
    with write_whole(options.out) as out:
        out.write(file.getvalue())
    print(tabulate(rows[: options.number], headers=["set", "image", "before", "after"], floatfmt=".3f"))


if __name__ == "__main__":
    main()
