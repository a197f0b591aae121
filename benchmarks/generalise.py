"""How a recipe does on images of sources that it has not seen: train without one set, score on it, for each.

    python benchmarks/generalise.py --weights resnet18_imagenet.npz -o runs/generalise \
        [--config-file nuclei_R_18_FPN_wide] [--iterations 1000] [--sets nuinsseg,kromp] [--seeds 1] [KEY VALUE ...]

Six sets: the fluorescence images of DSB 2018, its stained ones, and the four further data sets of
datasets/README.md, converted to data/dsb2018 and data/other/NAME and divided (maskseg split --from
datasets/splits/NAME.csv). Each training takes the parts `train` of five sets, in fixed shares; the sixth is scored on
images of its parts `train` and `dev`. Parts that report choose nothing and are not touched. Two recipes are compared by
two calls with different --config-file or KEY VALUE and the same iterations, seeds and start.

What is done already in the folder is not done again, so that an interrupted call goes on. Prints and writes
generalise.csv: F1 at IoU 0.5, PQ and DSB score, each the mean over the images, with 95 % intervals of F1 by bootstrap.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

import maskseg  # noqa: F401  first: detectron2 may be the copy that it carries
from maskseg.core.files import write_whole
from maskseg.core.tables import write_csv
from maskseg.data.dataset import dataset_dicts
from maskseg.evaluation.evaluator import evaluate_records
from maskseg.inference.api import load_model

ROOT = Path(__file__).resolve().parent.parent
# Set -> its share of the draws where it is not the one left out.
SHARES = {
    "dsb_fluorescence": 3.0,
    "dsb_stained": 1.0,
    "nuinsseg": 3.0,
    "kromp_bsst265": 1.5,
    "bitdepth_nucseg": 1.5,
    "mnfinder_nuclei": 1.0,
}


def records_of(name: str, part: str, root: Path) -> list[dict[str, Any]]:
    """The images of a part of a set, of DSB 2018 those of one kind."""
    if not name.startswith("dsb_"):
        return dataset_dicts(f"{root}/other/{name}:{part}")
    bright = name == "dsb_fluorescence"
    return [one for one in dataset_dicts(f"{root}/dsb2018:{part}") if (one["modality"] == "white on black") == bright]


def training_set(name: str, root: Path, out: Path) -> str:
    """A data set as the trainer takes it; the two kinds of DSB 2018 become data sets of their own."""
    if not name.startswith("dsb_"):
        return f"{root}/other/{name}:train"
    folder = out / "sets" / name
    kept = {record["image_id"] for record in records_of(name, "train", root)}
    if not (folder / "annotations.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        coco = json.loads((root / "dsb2018" / "annotations.json").read_text(encoding="utf-8"))
        coco["images"] = [image for image in coco["images"] if Path(image["file_name"]).stem in kept]
        numbers = {image["id"] for image in coco["images"]}
        coco["annotations"] = [one for one in coco["annotations"] if one["image_id"] in numbers]
        (folder / "images").symlink_to((root / "dsb2018" / "images").resolve(), target_is_directory=True)
        with write_whole(folder / "annotations.json", "w", encoding="utf-8") as file:
            json.dump(coco, file)
    return str(folder)


def train(left: str, seed: int, options: argparse.Namespace, folder: Path) -> None:
    """Train without one set, or go on with it."""
    others = [name for name in SHARES if name != left]
    command = [sys.executable, str(ROOT / "tools" / "train_net.py"), "--config-file", options.config_file]
    command += ["--num-gpus", "0"] if options.cpu else []
    command += ["--resume"] if (folder / "last_checkpoint").is_file() else []
    keys = {
        "MODEL.WEIGHTS": options.weights,
        "DATASETS.TRAIN": repr(tuple(training_set(name, options.data, options.out) for name in others)),
        "DATASETS.TRAIN_SHARES": repr(tuple(SHARES[name] for name in others)),
        "DATASETS.TEST": "()",
        "TEST.EVAL_PERIOD": "0",
        "SOLVER.MAX_ITER": str(options.iterations),
        "SOLVER.WARMUP_ITERS": str(max(options.iterations // 20, 1)),
        "SEED": str(seed),
        "OUTPUT_DIR": str(folder),
    }
    command += [part for item in keys.items() for part in item] + options.opts
    subprocess.run(command, check=True)


def score(left: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Figures of the set that was left out."""
    records = [record for part in ("train", "dev") for record in records_of(left, part, options.data)]
    records = records[:: -(-len(records) // options.images)]
    summary = evaluate_records(load_model(str(folder)), records, "none")
    low, high = summary["interval"]["f1_50"]
    return {
        "images": summary["images"],
        "F1 0.5": summary["f1_50"],
        "low": low,
        "high": high,
        "F1 0.7": summary["f1_70"],
        "PQ": summary["pq"],
        "DSB score": summary["dsb_score"],
    }


def parsed(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", default="nuclei_R_18_FPN_wide")
    parser.add_argument("--weights", required=True, help="start that has seen none of the sets")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--iterations", type=int, default=1000)
    parser.add_argument("--images", type=int, default=60, help="at most, scored of a set")
    parser.add_argument("--sets", default=",".join(SHARES))
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE")
    return parser.parse_args(arguments)


def main() -> None:
    """Train, score, print."""
    options = parsed()
    rows = []
    for seed in map(int, options.seeds.split(",")):
        for left in options.sets.split(","):
            folder = options.out / f"{left}_{seed}"
            done = folder / "generalise.json"
            if not done.is_file():
                train(left, seed, options, folder)
                figures = score(left, options, folder)
                with write_whole(done, "w", encoding="utf-8") as file:
                    json.dump(figures, file)
            rows.append({"left out": left, "seed": seed, **json.loads(done.read_text(encoding="utf-8"))})
    mean = {key: sum(row[key] for row in rows) / len(rows) for key in ("F1 0.5", "F1 0.7", "PQ", "DSB score")}
    rows.append({**dict.fromkeys(rows[0], ""), "left out": "mean", **mean})
    write_csv(options.out / "generalise.csv", list(rows[0]), rows)
    print(tabulate(rows, headers="keys", floatfmt=".3f"))


if __name__ == "__main__":
    main()
