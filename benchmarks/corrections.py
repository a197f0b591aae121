"""Predict, correct, retrain: what correcting half of ten pieces of tissue is worth on pieces of other slides.

    python benchmarks/corrections.py monuseg_train.zip work/ [KEY VALUE ...]

The zip file has tissue images with outlines for Aperio ImageScope, as MoNuSeg. The bundled model predicts ten pieces of
five slides. The person who corrects them in QuPath is played by the true outlines: in the left half of each piece they
take the place of what was predicted, and an annotation called "reviewed" lies around it; the right half stays as it
was predicted. Half of the errors are corrected so, and the other half is still in the files. Every step is a command
that is printed as it is run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.data.split import write_split
from maskseg.evaluation.error_types import ErrorType, error_types
from maskseg.evaluation.matching import overlaps
from maskseg.formats.geojson import read_geojson, write_geojson

# Slides that are corrected and slides that are scored; of each the first pieces.
CORRECTED = ("TCGA-21-5784", "TCGA-50-5931", "TCGA-AR-A1AK", "TCGA-B0-5698", "TCGA-G9-6362")
SCORED = ("TCGA-21-5786", "TCGA-A7-A13E", "TCGA-B0-5710", "TCGA-NH-A8F7")
PIECES = 2


def main() -> None:
    """Run the whole loop in a folder, the training as it is by default but for the settings given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zip_file", metavar="monuseg_train.zip")
    parser.add_argument("work", help="folder for all files")
    parser.add_argument("settings", nargs="*", metavar="KEY VALUE", help="of the training")
    args = parser.parse_args()
    zip_file, work, settings = args.zip_file, args.work, args.settings
    tissue, out = f"{work}/tissue", Path(work)
    maskseg("convert", "xml", zip_file, zip_file, "-o", tissue)
    images = choose(Path(tissue), out)
    maskseg("predict", str(out / "images"), "-o", f"{work}/predicted", "--formats", "geojson", "--tta", "none")
    before, after = correct(Path(tissue), images, out)
    print(f"errors in the {len(images)} pieces: {before}, after the correction {after}", flush=True)
    corrected = f"{work}/corrected"
    maskseg("convert", "geojson", f"{work}/geojson", "--images", f"{work}/images", "--reviewed", "-o", corrected)
    run = f"{work}/run"
    maskseg("train", "--from", "nuclei", "--data", corrected, "-o", run, *settings)
    for name, model in (("before", "nuclei"), ("after", run)):
        maskseg(
            "predict", f"{work}/others", "-o", f"{work}/{name}", "--model", model, "--formats", "coco", "--tta", "none"
        )
        maskseg("evaluate", "--truth", f"{tissue}:scored", "--pred", f"{work}/{name}", "-o", f"{work}/scores_{name}")
    maskseg("compare", f"{work}/before", f"{work}/after", "--truth", f"{tissue}:scored")


def maskseg(*words: str) -> None:
    """Run a command and show it."""
    print("$ maskseg", *words, flush=True)
    code = subprocess.run([sys.executable, "-m", "maskseg.cli.main", *words], check=False).returncode
    if code not in (0, 2) or (code == 2 and words[0] != "convert"):
        raise SystemExit(code)


def choose(tissue: Path, out: Path) -> list[str]:
    """Divide the pieces: links to those that are corrected and to those that are scored, and ``split.csv``."""
    rows, corrected = [], []
    for image in load_coco(tissue).images:
        stem = Path(image["file_name"]).stem
        place = [f"{row}_{column}" for row in range(2) for column in range(2)].index(stem[-3:])
        part = "rest"
        if place < PIECES and stem.startswith(CORRECTED):
            part, folder = "corrected", "images"
            corrected.append(stem)
        elif place < PIECES and stem.startswith(SCORED):
            part, folder = "scored", "others"
        if part != "rest":
            (out / folder).mkdir(exist_ok=True)
            link = out / folder / image["file_name"]
            if not link.exists():
                link.symlink_to((tissue / "images" / image["file_name"]).resolve())
        rows.append({"image_id": stem, "part": part, "modality": ""})
    write_split(tissue / "split.csv", rows)
    return corrected


def correct(tissue: Path, images: list[str], out: Path) -> tuple[int, int]:
    """Write the corrected GeoJSON files; how many errors there were, and how many are left."""
    data = load_coco(tissue)
    truth_of = {Path(image["file_name"]).stem: data.masks(image) for image in data.images}
    before = after = 0
    (out / "geojson").mkdir(exist_ok=True)
    for name in images:
        truth = truth_of[name]
        found = read_geojson(out / "predicted" / "geojson" / f"{name}.geojson", truth.shape)
        middle = truth.shape[1] // 2
        mixed = CropMasks.joined(truth.shape, [_side(truth, middle, True), _side(found, middle, False)])
        path = out / "geojson" / f"{name}.geojson"
        write_geojson(path, mixed)
        content = json.loads(path.read_text())
        height = truth.shape[0]
        ring = [[0, 0], [middle, 0], [middle, height], [0, height], [0, 0]]
        content["features"].append(
            {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"objectType": "annotation", "name": "reviewed"},
            }
        )
        path.write_text(json.dumps(content))
        before, after = before + errors(truth, found), after + errors(truth, mixed)
    return before, after


def _side(masks: CropMasks, middle: int, left: bool) -> CropMasks:
    centres = (masks.boxes[:, 0] + masks.boxes[:, 2]) / 2
    return masks[(centres < middle) == left]


def errors(truth: CropMasks, found: CropMasks) -> int:
    """Nuclei that are not right at an IoU of 0.5, and those found where there is none."""
    kinds = error_types(overlaps(truth.to_labels(), found.to_labels()), 50)
    return int((kinds.truth != ErrorType.right).sum() + np.sum(kinds.pred == ErrorType.extra))


if __name__ == "__main__":
    main()
