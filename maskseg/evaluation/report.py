"""One page about a prediction run: how well it did, where and in what way it failed, and the images that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.errors import InputError
from maskseg.evaluation import report_figures as figures
from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.dsb import THRESHOLDS, image_scores
from maskseg.evaluation.failures import Kind, Kinds, kinds
from maskseg.evaluation.matching import matches, overlaps
from maskseg.evaluation.sets import LabelSet
from maskseg.images import ImageFile
from maskseg.intensity import stretch
from maskseg.output.overlay import overlay
from maskseg.output.page import Item, Page

# IoU in percent at which failures are told apart; the gallery shows the first.
FAILURE_IOU = (50, 70)
# Images at each place of the gallery.
_SHOWN = 8
_TRUE_KINDS = (Kind.right, Kind.inexact, Kind.merged, Kind.split, Kind.missed)

# Detection scores of the labels 1, 2, ... of an image, or None where the prediction has none.
Scores = Callable[[str], NDArray[np.float32] | None]


@dataclass(frozen=True)
class ImageResult:
    """What the page needs of an image; N true and M predicted nuclei.

    Attributes
    ----------
    name, modality : str
    scores : dict
        Of `maskseg.evaluation.dsb.image_scores`.
    precision : float64 array (10,)
        TP / (TP + FP + FN) at each of the IoU thresholds; their mean is the DSB score.
    truth_areas, pred_areas : int64 arrays (N,), (M,)
        Pixels.
    kinds : dict of percent to Kinds
    detection_scores : float32 array (M,) or None
    """

    name: str
    modality: str
    scores: dict[str, Any]
    precision: NDArray[np.float64]
    truth_areas: NDArray[np.int64]
    pred_areas: NDArray[np.int64]
    kinds: dict[int, Kinds]
    detection_scores: NDArray[np.float32] | None


def look_at(
    name: str,
    modality: str,
    truth: NDArray[np.integer],
    prediction: NDArray[np.integer],
    detection_scores: NDArray[np.float32] | None,
) -> ImageResult:
    """Compare the label images, integer (H, W), of one image."""
    pairs = overlaps(truth, prediction)
    everything = len(pairs.truth_areas) + len(pairs.pred_areas)
    found = np.array([matches(pairs, percent).sum() for percent in THRESHOLDS])
    precision = found / (everything - found) if everything else np.ones(len(THRESHOLDS))
    if detection_scores is not None:
        # A mask that others cover wholly has no label.
        detection_scores = detection_scores[pairs.pred_labels.astype(np.int64) - 1]
    return ImageResult(
        name,
        modality,
        image_scores(truth, prediction),
        precision,
        pairs.truth_areas,
        pairs.pred_areas,
        {percent: kinds(pairs, percent) for percent in FAILURE_IOU},
        detection_scores,
    )


def look_at_all(
    truth: LabelSet,
    prediction: LabelSet,
    scores: Scores,
    progress: Callable[[Sequence[str]], Iterable[str]] = iter,
) -> tuple[list[ImageResult], list[str]]:
    """Compare all images of the truth; an image without prediction counts as one in which nothing was found.

    Returns
    -------
    results : list of ImageResult
    problems : list of str
        What was left out or missing, a line each.

    Raises
    ------
    InputError
        If the two sets have no image in common.
    """
    predicted = set(prediction.ids)
    if not predicted & set(truth.ids):
        raise InputError(f"{prediction.source} and {truth.source} have no image in common")
    results, problems = [], []
    for name in progress(truth.ids):
        try:
            expected, found = _both(truth, prediction, name)
            known = scores(name) if name in predicted else np.zeros(0, np.float32)
            results.append(look_at(name, truth.modalities.get(name) or "unknown", expected, found, known))
        except InputError as error:
            problems.append(f"{name} left out: {error}")
            continue
        if name not in predicted:
            problems.append(f"{name} has no prediction: counted as nothing found")
    if not results:
        raise InputError(f"no image of {truth.source} can be compared: {problems[0]}")
    return results, problems


def _both(truth: LabelSet, prediction: LabelSet, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    expected = truth.labels(name, None)
    if name not in prediction.ids:
        return expected, np.zeros_like(expected)
    return expected, prediction.labels(name, expected.shape)


def build_page(
    truth: LabelSet,
    prediction: LabelSet,
    results: Sequence[ImageResult],
    images: Mapping[str, ImageFile],
    problems: Sequence[str] = (),
    other: tuple[str, Sequence[ImageResult]] | None = None,
) -> Page:
    """The page about a run.

    Parameters
    ----------
    truth, prediction : LabelSet
    results, problems
        Of `look_at_all`.
    images : mapping of image id to ImageFile
        For the gallery; images that are not in it are left out of the gallery.
    other : (name, results), optional
        Another run on the same truth to compare with.
    """
    page = Page(f"Prediction of {prediction.source}", f"against {truth.source}, {len(results)} images")
    _scores(page, results, other)
    if problems:
        page.text(f"{len(problems)} images with a problem. " + "; ".join(problems[:10]))
    _failures(page, results)
    page.section("Images")
    page.figure(
        figures.legend(),
        f"Outlines in the pictures, which are stretched in brightness; errors at IoU {FAILURE_IOU[0] / 100}.",
    )
    for title, some in _places([result for result in results if result.name in images]):
        page.gallery((_item(result, truth, prediction, images[result.name]) for result in some), title)
    page.table(
        ["image", "modality", "mean IoU (DSB score)", "true", "predicted", "found", *_names(_TRUE_KINDS[1:]), "extra"],
        [
            [r.name, r.modality, r.scores["dsb_score"], r.scores["n_truth"], r.scores["n_pred"], r.scores["matched"]]
            + [int((r.kinds[FAILURE_IOU[0]].truth == kind).sum()) for kind in _TRUE_KINDS[1:]]
            + [int((r.kinds[FAILURE_IOU[0]].pred == Kind.extra).sum())]
            for r in sorted(results, key=_score)
        ],
        f"All images, the worst first; errors at IoU {FAILURE_IOU[0] / 100}.",
    )
    return page


def _scores(page: Page, results: Sequence[ImageResult], other: tuple[str, Sequence[ImageResult]] | None) -> None:
    page.section("Scores")
    headers = [
        "modality",
        "images",
        "nuclei",
        "mean IoU (DSB score)",
        "95 % interval",
        "F1 0.5",
        "F1 0.7",
        "matched IoU",
    ]
    others = {result.name: result for result in other[1]} if other else {}
    rows = []
    for name, group in _groups(results):
        low, high = mean_interval([_score(result) for result in group])
        matched = sum(result.scores["matched"] for result in group)
        total = sum(r.scores["matched"] * r.scores["matched_iou"] for r in group if r.scores["matched"])
        row = [
            name,
            len(group),
            sum(result.scores["n_truth"] for result in group),
            f"{_mean(group, 'dsb_score'):.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{_mean(group, 'f1_50'):.3f}",
            f"{_mean(group, 'f1_70'):.3f}",
            f"{total / matched:.3f}" if matched else None,
        ]
        if other:
            both = [(result, others[result.name]) for result in group if result.name in others]
            changes = [_score(mine) - _score(theirs) for mine, theirs in both]
            if both:
                low, high = mean_interval(changes)
                theirs = f"{_mean([theirs for _, theirs in both], 'dsb_score'):.3f}"
                row += [theirs, f"{np.mean(changes):+.3f}", f"{low:+.3f} to {high:+.3f}"]
            else:
                row += [None] * 3
        rows.append(row)
    if other:
        headers += [other[0], "difference", "its interval"]
    page.table(headers, rows, "Means over images; intervals by bootstrap over the images: few images, wide intervals.")
    curves = [("this run", results)] + ([(other[0], other[1])] if other else [])
    page.figure(
        figures.precision_curves([(name, np.mean([r.precision for r in some], axis=0)) for name, some in curves]),
        "TP / (TP + FP + FN), mean over images, at each IoU. The mean of the curve is the DSB score.",
    )
    page.figure(
        figures.score_histogram({name: [_score(r) for r in group] for name, group in _groups(results)[:-1]}),
        "Images by their score.",
    )


def _failures(page: Page, results: Sequence[ImageResult]) -> None:
    page.section("Errors")
    areas = np.concatenate([result.truth_areas for result in results])
    bounds = np.percentile(areas, [100 / 3, 200 / 3]) if len(areas) else np.zeros(2)
    sizes = (f"small, up to {bounds[0]:.0f} px", "medium", f"large, over {bounds[1]:.0f} px")
    page.text(
        "Right: a predicted nucleus matches above the IoU. Inexact: one meets it, but with too low an IoU. Merged: it "
        "lies mainly in a predicted nucleus that holds several. Split: several predicted nuclei lie mainly in it. "
        "Missed: none meets it (IoU above 0.1). Extra: a predicted nucleus that meets no true one. "
        "Small, medium and large are thirds of all true nuclei."
    )
    counts = {percent: _count(results, percent, lambda r, a: np.searchsorted(bounds, a), 3) for percent in FAILURE_IOU}
    page.figure(figures.kinds_by_size(counts, sizes, _TRUE_KINDS), "Errors by size of the nucleus.")
    detections = [result for result in results if result.detection_scores is not None]
    if detections and any(len(result.detection_scores) for result in detections):  # type: ignore[arg-type]
        score = np.concatenate([result.detection_scores for result in detections])  # type: ignore[misc]
        right = {p: np.concatenate([r.kinds[p].pred == Kind.right for r in detections]) for p in FAILURE_IOU}
        page.figure(
            figures.calibration(score, right),
            "Scores of the detections against the share of them that is right: on the diagonal a score is a chance.",
        )
    else:
        page.text("The prediction has no detection scores (a COCO file has), so there is no calibration of them.")
    groups = [name for name, _ in _groups(results)[:-1]]
    by_modality = {
        percent: _count(results, percent, lambda r, a: np.full(len(a), groups.index(r.modality)), len(groups))
        for percent in FAILURE_IOU
    }
    for what, names, tables in (("size", sizes, counts), ("modality", groups, by_modality)):
        page.table(
            [what, "IoU", "true nuclei", *(f"{name} %" for name in _names(_TRUE_KINDS)), "extra per 100 true"],
            [
                [name, f"{percent / 100:.2f}", int(row[:-1].sum()), *_shares(row)]
                for percent, table in tables.items()
                for name, row in zip(names, table, strict=True)
            ],
        )


def _count(
    results: Sequence[ImageResult],
    percent: int,
    group: Callable[[ImageResult, NDArray[np.int64]], NDArray[np.intp]],
    groups: int,
) -> NDArray[np.int64]:
    """Nuclei by group and kind, int64 (groups, 6): true nuclei of each kind, and extra ones in the last column."""
    table = np.zeros((groups, len(Kind)), np.int64)
    for result in results:
        found = result.kinds[percent]
        np.add.at(table, (group(result, result.truth_areas), found.truth), 1)
        extra = found.pred == Kind.extra
        np.add.at(table, (group(result, result.pred_areas[extra]), Kind.extra), 1)
    return table


def _shares(row: NDArray[np.int64]) -> list[str | None]:
    total = row[: Kind.extra].sum()
    return [f"{100 * value / total:.1f}" if total else None for value in row]


def _places(results: Sequence[ImageResult]) -> Iterator[tuple[str, Sequence[ImageResult]]]:
    """The worst, the middle and the best images, none of them twice."""
    ranked = sorted(results, key=_score)
    few = min(_SHOWN, max(len(ranked) // 3, 1))
    middle = (len(ranked) - few) // 2
    for title, some in (
        ("The worst", ranked[:few]),
        ("In the middle", ranked[max(middle, few) : middle + few]),
        ("The best", ranked[max(len(ranked) - few, few) :][::-1]),
    ):
        if some:
            yield title, some


def _item(result: ImageResult, truth: LabelSet, prediction: LabelSet, file: ImageFile) -> Item:
    expected, found = _both(truth, prediction, result.name)
    sides = {"truth": expected, "pred": found}
    at = result.kinds[FAILURE_IOU[0]]
    marked, named = [], []
    for kind, (side, colour) in figures.MARKS.items():
        labels = sides[side]
        chosen = np.unique(labels[labels > 0])[getattr(at, side) == kind]
        if len(chosen):
            marked.append((np.where(np.isin(labels, chosen), labels, 0), colour))
            named.append(f"{len(chosen)} {kind.name}")
    caption = (
        f"{result.modality}; {result.scores['matched']} of {result.scores['n_truth']} nuclei found"
        f"{': ' if named else ''}{', '.join(named)}"
    )
    # Stretched: a dim nucleus that was missed should be seen.
    return Item(
        None, overlay(stretch(file.read()), expected, found, marked), f"{_score(result):.3f}  {result.name}", caption
    )


def _groups(results: Sequence[ImageResult]) -> list[tuple[str, list[ImageResult]]]:
    """Results by modality, all of them last."""
    names = sorted({result.modality for result in results})
    return [(name, [r for r in results if r.modality == name]) for name in names] + [("all", list(results))]


def _names(some: Sequence[Kind]) -> list[str]:
    return [kind.name for kind in some]


def _mean(results: Sequence[ImageResult], key: str) -> float:
    return float(np.mean([result.scores[key] for result in results]))


def _score(result: ImageResult) -> float:
    return result.scores["dsb_score"]
