#!/usr/bin/env python3
"""The whole main job on the sample images: convert, predict, check, score, fine-tune, and one picture to look at.

``make demo`` runs it.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path("datasets/sample")
OUT = Path("out/demo")


def run(*arguments: str) -> None:
    """Run a maskseg command, showing it as one would type it."""
    print(f"\n$ maskseg {shlex.join(arguments)}", flush=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "maskseg.cli.main", *arguments], check=True)
    print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)


def outlines(folder: Path, title: str) -> list[tuple[str, np.ndarray]]:
    """Pictures of the held-out images with a title each: truth red, the prediction in a folder blue."""
    from maskseg.data.dataset import dataset_dicts, load_record
    from maskseg.evaluation.dsb import image_scores
    from maskseg.formats.labels import read_labels
    from maskseg.formats.overlay import overlay

    pictures = []
    for record in dataset_dicts(str(OUT / "heldout")):
        image, truth = load_record(record)
        found = read_labels(folder / "labels" / f"{record['image_id']}.tif")
        score = image_scores(truth, found)["dsb_score"]
        pictures.append((f"{title}: {record['modality']}, score {score:.2f}", overlay(image, truth, found)))
    return pictures


def predict_and_score(folder: Path, *model: str) -> None:
    """Segment the held-out images, check the submission, score it."""
    images = str(OUT / "heldout" / "images")
    run("predict", images, "-o", str(folder), *model)
    run("submission", "check", str(folder / "submission.csv"), "--images", images)
    run("evaluate", "--truth", str(OUT / "heldout"), "--pred", str(folder), "-o", str(folder / "scores"))


def main() -> None:
    """Run the steps; a failing one stops the demo with its own message."""
    os.chdir(ROOT)
    shutil.rmtree(OUT, ignore_errors=True)
    begin = time.perf_counter()
    for part in ("train", "heldout"):
        run("convert", "folders", f"{SAMPLE / part}", "-o", f"{OUT / part}", "--modality", f"{SAMPLE / 'modality.csv'}")

    print("\nThe model that comes with the package, at once:", flush=True)
    predict_and_score(OUT / "bundled")
    print(
        "\nThe same model trained for some minutes. It has seen these 24 images before: what this shows is the way,\n"
        "on images of your own the gain.",
        flush=True,
    )
    run("train", "--from", "nuclei", "--data", str(OUT / "train"), "-o", str(OUT / "run"))
    predict_and_score(OUT / "finetuned", "--model", str(OUT / "run"))

    from maskseg.formats.overlay import panel, write_picture

    sheet = outlines(OUT / "bundled", "bundled") + outlines(OUT / "finetuned", "fine-tuned")
    write_picture(OUT / "overview.png", panel(sheet, columns=4))
    print(
        f"\nDone in {(time.perf_counter() - begin) / 60:.1f} minutes. "
        f"Open {OUT / 'overview.png'}: truth red, prediction blue.\n"
        f"To see, correct and teach in the browser: maskseg serve {OUT / 'heldout' / 'images'}"
    )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
