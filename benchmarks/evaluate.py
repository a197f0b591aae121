"""Scoring with pairs counted once and kept sparse, beside the dense product of all masks and pycocotools.

Then the same figures from independent software, on random label images and on real predictions.

    python benchmarks/evaluate.py [--pairs 1000] [--truth data/dsb2018:dev --pred out/predictions.json]

The references are pycocotools and stardist.matching. The latter needs no TensorFlow:

    pip install --no-deps stardist csbdeep numba llvmlite six

StarDist and COCO count an IoU >= t as a match and the DSB score an IoU > t: both are compared, and the random label
images hold exact ties. Processor seconds of one process; exit status 1 where a figure differs by more than 1e-6.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.core.masks import CropMasks
from maskseg.evaluation.aggregate import panoptic_quality
from maskseg.evaluation.dsb import THRESHOLDS, at_thresholds, summarise
from maskseg.evaluation.matching import matches, overlaps
from maskseg.evaluation.results import coco_ap, compare_image, errors_by_size
from maskseg.evaluation.sets import open_set

Pair = tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]  # truth, prediction, scores of the labels 1 ... N
TOLERANCE = 1e-6


def nuclei(rng: np.random.Generator, shape: tuple[int, int], count: int, radius: tuple[float, float]) -> NDArray[Any]:
    """Label image of ellipses, some of them touching."""
    labels = np.zeros(shape, np.uint16)
    for label in range(1, count + 1):
        a, b = rng.uniform(*radius, 2)
        y, x = rng.integers(0, shape)
        top, left = max(y - int(a) - 1, 0), max(x - int(b) - 1, 0)
        rows, columns = np.ogrid[top : y + int(a) + 2, left : x + int(b) + 2]
        patch = labels[top : y + int(a) + 2, left : x + int(b) + 2]
        inside = ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
        patch[inside[: patch.shape[0], : patch.shape[1]]] = label
    return labels


def predicted(rng: np.random.Generator, truth: NDArray[Any], extra: int) -> Pair:
    """A prediction with every kind of error: moved, missed, extra, merged and split, also into equal halves."""
    found = np.roll(truth, rng.integers(-2, 3, 2), (0, 1)) if rng.random() < 0.5 else truth.copy()
    labels = np.unique(found[found > 0])
    for label in labels:
        fate = rng.random()
        if fate < 0.1:
            found[found == label] = 0
        elif fate < 0.2:
            found[found == label] = rng.choice(labels)
        elif fate < 0.4:
            pixels = np.flatnonzero(found == label)
            found.flat[pixels[: len(pixels) // 2]] = found.max() + 1
        elif fate < 0.6:
            pixels = np.flatnonzero(found == label)
            found.flat[pixels[: len(pixels) * rng.integers(1, 11) // 20]] = 0
    more = nuclei(rng, truth.shape, extra, (2, 6))
    found = np.where((found == 0) & (more > 0), more + found.max(), found)
    # In steps of a hundredth, so that equal scores are compared too.
    return truth, found, rng.integers(50, 101, int(found.max())).astype(np.float32) / 100


def random_pairs(count: int, seed: int = 0) -> list[Pair]:
    """Small random label images and predictions of them."""
    rng = np.random.default_rng(seed)
    return [
        predicted(rng, nuclei(rng, (96, 128), int(rng.integers(1, 40)), (1.5, 9)), int(rng.integers(0, 4)))
        for _ in range(count)
    ]


def real_pairs(truth: str, pred: str) -> list[Pair]:
    """Label images of a data set and of a prediction with scores."""
    true, found = open_set(truth), open_set(pred)
    if found.detections is None:
        sys.exit(f"{pred}: has no scores; give predictions.json of maskseg predict")
    return [(true.labels(name, None), found.labels(name, None), found.detections(name)) for name in true.ids]


def against_stardist(pairs: Sequence[Pair]) -> dict[str, float]:
    """Largest difference to ``stardist.matching``, in what the two define alike."""
    from stardist.matching import matching_dataset

    names = {"ap": "accuracy", "precision": "precision", "recall": "recall", "f1": "f1"}
    sparse = [overlaps(truth, found) for truth, found, _ in pairs]
    n_truth = np.array([len(each.truth_areas) for each in sparse])[:, None]
    n_pred = np.array([len(each.pred_areas) for each in sparse])[:, None]
    worst = {}
    # An IoU above t is at least a millionth above it as long as a union has less than 10,000 pixels.
    for operator, inclusive, shift in (("IoU >= t", True, 0.0), ("IoU > t", False, 1e-6)):
        hits = np.array([[matches(each, t, inclusive).sum() for t in THRESHOLDS] for each in sparse])
        for by_image in (True, False):
            thresholds = [t / 100 + shift for t in THRESHOLDS]
            theirs = matching_dataset(
                [truth for truth, _, _ in pairs],
                [found for _, found, _ in pairs],
                thresholds,
                by_image=by_image,
                show_progress=False,
            )
            if by_image:
                ours = {key: value.mean(axis=0) for key, value in at_thresholds(n_truth, n_pred, hits).items()}
            else:
                ours = at_thresholds(n_truth.sum(), n_pred.sum(), hits.sum(axis=0))
            way = "mean over images" if by_image else "pooled"
            for key, name in names.items():
                worst[f"{key}, {way}, {operator}"] = _worst(ours[key], [getattr(at, name) for at in theirs])
            if by_image and not inclusive:
                pq = float(np.mean([panoptic_quality(each) for each in sparse]))
                worst[f"PQ, {way}, {operator}"] = _worst(pq, theirs[0].panoptic_quality)
    return worst


def against_pycocotools(pairs: Sequence[Pair]) -> dict[str, float]:
    """Largest difference to pycocotools' mask AP with maxDets raised."""
    precision = pycocotools_precision(pairs)
    ours = coco_ap([compare_image(*pair) for pair in pairs])
    theirs = {"ap": precision.mean(), "ap_50": precision[0].mean(), "ap_75": precision[5].mean()}
    return {f"COCO mask {key}": _worst(ours[key], value) for key, value in theirs.items()}  # type: ignore[index]


def pycocotools_precision(pairs: Sequence[Pair]) -> NDArray[np.float64]:
    """Precision (10 IoUs, 101 recalls) of COCOeval."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images, truths, found = [], [], []
    for number, (truth, prediction, scores) in enumerate(pairs, start=1):
        height, width = truth.shape
        images.append({"id": number, "height": height, "width": width})
        for side, labels in ((truths, truth), (found, prediction)):
            masks = CropMasks.from_labels(labels)
            values = np.unique(labels[labels > 0])
            for value, area, rle in zip(values, masks.areas, masks.to_rle(), strict=True):
                item = {"id": len(side) + 1, "image_id": number, "category_id": 1, "segmentation": rle, "iscrowd": 0}
                side.append(
                    item | {"area": int(area), "bbox": [0, 0, 1, 1], "score": float(scores[value - 1])}
                    if side is found
                    else item | {"area": int(area)}
                )
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = {"images": images, "annotations": truths, "categories": [{"id": 1, "name": "nucleus"}]}
        data.createIndex()
        run = COCOeval(data, data.loadRes(found), "segm")
        run.params.maxDets = [100_000]
        # Its own thresholds are off by a rounding error, which decides exact ties.
        run.params.iouThrs = np.array(THRESHOLDS) / 100
        run.params.areaRng, run.params.areaRngLbl = [[0, 1e10]], ["all"]
        run.evaluate()
        run.accumulate()
    return run.eval["precision"][:, :, 0, 0, 0]


def dense(truth: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.float64]:
    """IoU of every true with every predicted nucleus, as a product of N x H x W masks."""
    sides = []
    for labels in (truth, prediction):
        values = np.unique(labels[labels > 0])
        sides.append((labels[None] == values[:, None, None]).reshape(len(values), -1).astype(np.float32))
    a, b = sides
    intersection = a @ b.T
    return intersection / (a.sum(1)[:, None] + b.sum(1)[None] - intersection)


def _worst(ours: Any, theirs: Any) -> float:
    return float(np.abs(np.asarray(ours, float) - np.asarray(theirs, float)).max())


def cpu_seconds(step: Callable[[], Any]) -> float:
    """Processor seconds of a call."""
    start = time.process_time()
    step()
    return time.process_time() - start


def speed(count: int) -> None:
    """Print the table of times."""
    rng = np.random.default_rng(1)
    # A hundred different pairs, again and again: drawing them takes longer than scoring them.
    truths = [nuclei(rng, (520, 696), 200, (7, 15)) for _ in range(min(count, 100))]
    made = [predicted(rng, truth, 5) for truth in truths]
    pairs = [made[i % len(made)] for i in range(count)]
    few = pairs[:10]

    def ours() -> None:
        results = [compare_image(*pair) for pair in pairs]
        summarise([result.scores for result in results])
        coco_ap(results)
        errors_by_size(results)

    held = np.mean([len(np.unique(truth)) - 1 for truth in truths])
    print(f"{count} pairs of 520 x 696 label images with {held:.0f} nuclei")
    print(f"{'':64s} {'cpu s':>8s} {'ms a pair':>10s}")
    for name, step, number in (
        ("maskseg: every figure, intervals, errors, COCO AP", ours, count),
        ("IoU of all pairs as a product of N x H x W masks, nothing else", lambda: [dense(*p[:2]) for p in few], 10),
        ("pycocotools: encode, evaluate, accumulate", lambda: pycocotools_precision(few), 10),
    ):
        seconds = cpu_seconds(step)
        print(f"{f'{name} ({number} pairs)':64s} {seconds:8.2f} {1000 * seconds / number:10.2f}")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1000)
    parser.add_argument("--truth", help="True nuclei, as for maskseg evaluate.")
    parser.add_argument("--pred", help="Prediction with scores.")
    options = parser.parse_args()
    speed(options.pairs)
    sets = {"200 random pairs": random_pairs(200)}
    if options.truth and options.pred:
        sets[f"{options.pred} against {options.truth}"] = real_pairs(options.truth, options.pred)
    failed = False
    for name, pairs in sets.items():
        print(f"\nLargest difference, {name} ({len(pairs)} images)")
        for reference in (against_stardist, against_pycocotools):
            try:
                found = reference(pairs)
            except ImportError as error:
                print(f"  {reference.__name__}: left out ({error}); see --help")
                continue
            for key, value in found.items():
                print(f"  {reference.__name__.removeprefix('against_'):12s} {key:40s} {value:.1e}")
            failed |= max(found.values()) > TOLERANCE
    sys.exit(int(failed))


if __name__ == "__main__":
    main()
