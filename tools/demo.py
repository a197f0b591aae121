#!/usr/bin/env python3
"""The whole main job on the sample images: convert, train, predict, check, score, and one picture to look at.

``make demo`` runs it. ImageNet weights make the short training count for more: ``make demo WEIGHTS=resnet18.npz``.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = Path("datasets/sample")
OUT = Path("out/demo")
# Three to five minutes on two cores.
ITERATIONS = 300


def run(*arguments: str) -> None:
    """Run a maskseg command, showing it as one would type it."""
    print(f"\n$ maskseg {shlex.join(arguments)}", flush=True)
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "maskseg.cli.main", *arguments], check=True)
    print(f"  ({time.perf_counter() - begin:.0f} s)", flush=True)


def overview(path: Path) -> None:
    """One sheet of the held-out images: truth red, prediction blue, score in the title."""
    from maskseg.data.coco import dataset_dicts
    from maskseg.evaluation.dsb import image_scores
    from maskseg.images import read_image
    from maskseg.masks import CropMasks
    from maskseg.output.labels import read_labels
    from maskseg.output.overlay import overlay, panel, write_picture

    pictures = []
    for record in dataset_dicts(str(OUT / "heldout")):
        image = read_image(record["file_name"])
        truth = CropMasks.from_rle(
            [item["segmentation"] for item in record["annotations"]], image.shape[:2]
        ).to_labels()
        found = read_labels(OUT / "predicted" / "labels" / f"{record['image_id']}.tif")
        score = image_scores(truth, found)["dsb_score"]
        pictures.append((f"{record['modality']}, {found.max()} found, score {score:.2f}", overlay(image, truth, found)))
    write_picture(path, panel(pictures, columns=4))


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
    }  # fmt: skip
    run(
        "train", "--config-file", "nuclei_R_18_FPN", *start,
        "DATASETS.TRAIN", f"('{OUT / 'train'}',)", "DATASETS.TEST", f"('{OUT / 'heldout'}',)",
        *(str(item) for pair in schedule.items() for item in pair),
    )  # fmt: skip
    images = str(OUT / "heldout" / "images")
    run("predict", images, "-o", f"{OUT / 'predicted'}", "--model", f"{OUT / 'run'}")
    run("submission", "check", f"{OUT / 'predicted' / 'submission.csv'}", "--images", images)
    run("evaluate", "--truth", f"{OUT / 'heldout'}", "--pred", f"{OUT / 'predicted'}", "-o", f"{OUT / 'scores'}")
    overview(OUT / "overview.png")
    print(
        f"\nDone in {(time.perf_counter() - begin) / 60:.1f} minutes. "
        f"Open {OUT / 'overview.png'}: truth red, prediction blue."
    )


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
