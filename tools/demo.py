#!/usr/bin/env python3
"""The whole main job on the sample images: convert, train, predict, check, score, and one picture to look at.

``make demo`` runs it. ImageNet weights make the short training count for more: ``make demo WEIGHTS=resnet18.npz``.
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
# About four minutes on two cores.
ITERATIONS = 300


def run(*arguments: str) -> None:
    """Run a maskseg command, showing it as one would type it."""
    print(f"\n$ maskseg {shlex.join(arguments)}", flush=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "maskseg.cli.main", *arguments], check=True)
    print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)


def outlines(folder: Path, title: str) -> list[tuple[str, np.ndarray]]:
    """Pictures of the held-out images with a title each: truth red, the prediction in a folder blue."""
    from maskseg.data.coco import dataset_dicts, load_record
    from maskseg.evaluation.dsb import image_scores
    from maskseg.output.labels import read_labels
    from maskseg.output.overlay import overlay

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

    # Without an ImageNet start nothing is frozen and batch norm is learnt: a frozen random stem would learn little.
    weights = os.environ.get("WEIGHTS", "")
    start = ["MODEL.WEIGHTS", weights] if weights else ["MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN"]
    schedule = {
        "SOLVER.MAX_ITER": ITERATIONS, "SOLVER.WARMUP_ITERS": 30, "SOLVER.CHECKPOINT_PERIOD": ITERATIONS,
        "TEST.EVAL_PERIOD": 0, "OUTPUT_DIR": OUT / "run",
        # The scores of a network trained so shortly are low; the config's threshold is for a finished one.
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.5,
    }  # fmt: skip
    run(
        "train", "--config-file", "nuclei_R_18_FPN", *start,
        "DATASETS.TRAIN", f"('{OUT / 'train'}',)", "DATASETS.TEST", f"('{OUT / 'heldout'}',)",
        *(str(item) for pair in schedule.items() for item in pair),
    )  # fmt: skip
    predict_and_score(OUT / "trained", "--model", str(OUT / "run"))
    print("\nThe same with the bundled model, trained in the same way on 443 images:", flush=True)
    predict_and_score(OUT / "bundled")

    from maskseg.output.overlay import panel, write_picture

    sheet = outlines(OUT / "bundled", "bundled model") + outlines(OUT / "trained", "short training")
    write_picture(OUT / "overview.png", panel(sheet, columns=4))
    print(
        f"\nDone in {(time.perf_counter() - begin) / 60:.1f} minutes. "
        f"Open {OUT / 'overview.png'}: truth red, prediction blue."
    )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
