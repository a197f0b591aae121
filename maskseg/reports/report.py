"""One page about a prediction run: how well it did, where and in what way it failed, and the images that show it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskseg.evaluation.classes import RADIUS, class_figures
from maskseg.evaluation.dsb import summarise
from maskseg.evaluation.error_types import ErrorType
from maskseg.evaluation.paired import paired
from maskseg.evaluation.results import ERROR_IOU, SIZES, ImageResult, errors_by_size
from maskseg.evaluation.sets import LabelSet
from maskseg.formats.overlay import overlay
from maskseg.imaging.intensity import stretch
from maskseg.imaging.reading import ImageFile
from maskseg.reports import report_figures as figures
from maskseg.reports.page import Item, Page

# Images at each place of the gallery, whose outlines show the errors at the first of ERROR_IOU.
_SHOWN = 8
_AT = ERROR_IOU[0]
# Images from which on an interval is given: drawn from fewer it would be too narrow.
_FEWEST = 5
_TRUE_KINDS = (ErrorType.right, ErrorType.inexact, ErrorType.merged, ErrorType.split, ErrorType.missed)
_OF_CLASS = {"pq": "PQ", "sq": "SQ", "rq": "RQ", "f_c": "F_c"}
_FIGURES = {
    "f1_50": "F1 0.5",
    "f1_70": "F1 0.7",
    "matched_iou": "matched IoU",
    "area_ratio": "area found/true",
    "pq": "PQ",
    "aji": "AJI",
}

Results = Mapping[str, ImageResult]


def build_page(
    truth: LabelSet,
    prediction: LabelSet,
    results: Results,
    images: Mapping[str, ImageFile],
    problems: Sequence[str] = (),
    other: tuple[str, Results] | None = None,
) -> Page:
    """The page about a run.

    Parameters
    ----------
    truth, prediction : LabelSet
    results, problems
        Of `maskseg.evaluation.sets.compare`.
    images : mapping of image id to ImageFile
        For the gallery; images that are not in it are left out of the gallery.
    other : (name, results), optional
        Another run on the same truth to compare with.
    """
    modality = {name: truth.modalities.get(name) or "unknown" for name in results}
    page = Page(f"Prediction of {prediction.source}", f"against {truth.source}, {len(results)} images")
    page.section("Scores")
    _scores(page, results, modality)
    if other:
        _comparison(page, results, modality, other)
    _figures(page, results, modality, other)
    if problems:
        page.text("Problems: " + "; ".join(problems) + ".")
    page.section("Errors")
    _errors(page, results, modality)
    by_class = class_figures(result.classes for result in results.values())
    if by_class is not None:
        page.section("Classes")
        _classes(page, by_class)
    page.section("Images")
    caption = f"Outlines in the pictures, which are stretched in brightness; errors at IoU {_AT / 100}."
    page.figure(figures.legend(), caption)
    for title, names in _places(results, images):
        items = (_item(name, results[name], modality[name], truth, prediction, images[name]) for name in names)
        page.gallery(items, title)
    page.table(
        ["image", "modality", "mean IoU (DSB score)", "true", "predicted", "found", *_names(_TRUE_KINDS[1:]), "extra"],
        [
            [
                name,
                modality[name],
                *(results[name].scores[key] for key in ("dsb_score", "n_truth", "n_pred", "matched")),
            ]
            + [int((results[name].kinds[_AT].truth == kind).sum()) for kind in _TRUE_KINDS[1:]]
            + [int((results[name].kinds[_AT].pred == ErrorType.extra).sum())]
            for name in _ranked(results)
        ],
        f"All images, the worst first; errors at IoU {_AT / 100}.",
    )
    return page


def _scores(page: Page, results: Results, modality: Mapping[str, str]) -> None:
    rows = []
    for name, group in _groups(results, modality):
        summary = summarise([results[image].scores for image in group])
        row = [name, len(group), summary["n_truth"], f"{summary['dsb_score']:.3f}"]
        row += [_interval(summary["interval"]["dsb_score"], len(group), ".3f")]
        rows.append(row + [None if summary[key] is None else f"{summary[key]:.3f}" for key in _FIGURES])
    page.table(
        ["modality", "images", "nuclei", "mean IoU (DSB score)", "95 % interval", *_FIGURES.values()],
        rows,
        f"Means over images; intervals by bootstrap over the images, where there are {_FEWEST} or more.",
    )


def _comparison(page: Page, results: Results, modality: Mapping[str, str], other: tuple[str, Results]) -> None:
    name, others = other
    rows = []
    for modal, group in _groups(results, modality):
        both = [image for image in group if image in others]
        if both:
            difference = paired([_score(others[image]) for image in both], [_score(results[image]) for image in both])
            means = [f"{difference['before']:.3f}", f"{difference['after']:.3f}", f"{difference['difference']:+.3f}"]
            interval = _interval(difference["interval"], len(both), "+.3f")
            rows.append([modal, *means, interval, f"{difference['better']} : {difference['worse']}"])
    page.table(
        ["modality", name, "this run", "difference", "95 % interval", "images better : worse"],
        rows,
        "Both runs, mean IoU (DSB score) of the images that both have.",
    )


def _figures(page: Page, results: Results, modality: Mapping[str, str], other: tuple[str, Results] | None) -> None:
    curves = [("this run", results), *([other] if other else [])]
    page.figure(
        figures.precision_curves([(name, _precision(some)) for name, some in curves]),
        "TP / (TP + FP + FN), mean over images, at each IoU. The mean of the curve is the DSB score.",
    )
    scores = {name: [_score(results[image]) for image in group] for name, group in _groups(results, modality)[:-1]}
    page.figure(figures.score_histogram(scores), "Images by their score.")


def _precision(results: Results) -> NDArray[np.float64]:
    thresholds = summarise([result.scores for result in results.values()])["thresholds"]
    return np.array([at["mean"]["ap"] for at in thresholds.values()])


def _errors(page: Page, results: Results, modality: Mapping[str, str]) -> None:
    page.text(
        "Right: a predicted nucleus matches above the IoU. Inexact: one meets it, but with too low an IoU. Merged: it "
        "lies mainly in a predicted nucleus that holds several. Split: several predicted nuclei lie mainly in it. "
        "Missed: none meets it (IoU above 0.1). Extra: a predicted nucleus that meets no true one. "
        "Small, medium and large are thirds of all true nuclei."
    )
    errors = errors_by_size(list(results.values()))
    sizes = (f"small, up to {errors['small_up_to']} px", f"medium, up to {errors['medium_up_to']} px", "large")
    by_size = {iou: np.array([list(table[size].values()) for size in SIZES]) for iou, table in _tables(errors)}
    page.figure(figures.kinds_by_size(by_size, SIZES, _TRUE_KINDS), "Errors by size of the nucleus.")
    detected = [result for result in results.values() if result.detections is not None]
    if sum(len(result.pred_areas) for result in detected):
        score = np.concatenate([result.detections for result in detected])
        right = {p: np.concatenate([result.kinds[p].pred == ErrorType.right for result in detected]) for p in ERROR_IOU}
        page.figure(
            figures.calibration(score, right),
            "Scores of the detections against the share of them that is right: on the diagonal a score is a chance.",
        )
    else:
        page.text("The prediction has no detection scores (a COCO file has), so there is no calibration of them.")
    groups = _groups(results, modality)
    each = [dict(_tables(errors_by_size([results[image] for image in group]))) for _, group in groups]
    by_modality = {
        iou: np.array([np.sum([list(row.values()) for row in tables[iou].values()], axis=0) for tables in each])
        for iou in by_size
    }
    for what, names, tables in (("size", sizes, by_size), ("modality", [name for name, _ in groups], by_modality)):
        page.table(
            [what, "IoU", "true nuclei", *(f"{name} %" for name in _names(_TRUE_KINDS)), "extra per 100 true"],
            [
                [name, iou, int(row[: ErrorType.extra].sum()), *_shares(row)]
                for iou, table in tables.items()
                for name, row in zip(names, table, strict=True)
            ],
        )


def _classes(page: Page, figures: Mapping[str, Any]) -> None:
    rows = [
        [name, row["n_truth"], row["n_pred"], *(None if row[key] is None else f"{row[key]:.3f}" for key in _OF_CLASS)]
        for name, row in figures["classes"].items()
    ]
    whole = {"mPQ+": "mpq_plus", "PQ without classes": "bpq", "F_d": "f_d", "right class": "accuracy"}
    said = ", ".join(f"{name} {figures[key]:.3f}" for name, key in whole.items() if figures[key] is not None)
    page.table(
        ["class", "true", "predicted", *_OF_CLASS.values()],
        rows,
        f"All nuclei of the set. {said}. A nucleus is found at an IoU above 0.5; F_d and F_c pair centroids within "
        f"{RADIUS} pixels.",
    )
    columns = list(next(iter(figures["confusion"].values())))
    page.table(
        ["true \\ predicted", *columns],
        [[name, *(row.get(column) for column in columns)] for name, row in figures["confusion"].items()],
        "Which class is taken for which: nuclei that match at an IoU above 0.5, and those that nothing matches.",
    )


def _tables(errors: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, dict[str, int]]]]:
    return ((iou, errors[iou]) for iou in (f"{percent / 100:.2f}" for percent in ERROR_IOU))


def _shares(row: NDArray[np.int64]) -> list[str | None]:
    total = row[: ErrorType.extra].sum()
    return [f"{100 * value / total:.1f}" if total else None for value in row]


def _places(results: Results, images: Mapping[str, ImageFile]) -> Iterator[tuple[str, list[str]]]:
    """The worst, the middle and the best images, none of them twice."""
    ranked = [name for name in _ranked(results) if name in images]
    few = min(_SHOWN, max(len(ranked) // 3, 1))
    middle = (len(ranked) - few) // 2
    for title, names in (
        ("The worst", ranked[:few]),
        ("In the middle", ranked[max(middle, few) : middle + few]),
        ("The best", ranked[max(len(ranked) - few, few) :][::-1]),
    ):
        if names:
            yield title, names


def _item(
    name: str, result: ImageResult, modality: str, truth: LabelSet, prediction: LabelSet, file: ImageFile
) -> Item:
    expected = truth.labels(name, None)
    predicted = prediction.labels(name, expected.shape) if name in prediction.ids else np.zeros_like(expected)
    sides = {"truth": expected, "pred": predicted}
    marked, named = [], []
    for kind, (side, colour) in figures.MARKS.items():
        labels = sides[side]
        chosen = np.unique(labels[labels > 0])[getattr(result.kinds[_AT], side) == kind]
        if len(chosen):
            marked.append((np.where(np.isin(labels, chosen), labels, 0), colour))
            named.append(f"{len(chosen)} {kind.name}")
    count = f"{result.scores['matched']} of {result.scores['n_truth']} nuclei found"
    caption = f"{modality}; {': '.join([count, *([', '.join(named)] if named else [])])}"
    # Stretched: a dim nucleus that was missed should be seen.
    picture = overlay(stretch(file.read()), expected, predicted, marked)
    return Item(None, picture, f"{_score(result):.3f}  {name}", caption)


def _groups(results: Results, modality: Mapping[str, str]) -> list[tuple[str, list[str]]]:
    """Images by modality, all of them last."""
    names = sorted({modality[image] for image in results})
    return [(name, [image for image in results if modality[image] == name]) for name in names] + [("all", [*results])]


def _ranked(results: Results) -> list[str]:
    return sorted(results, key=lambda name: _score(results[name]))


def _interval(bounds: Sequence[float], images: int, form: str) -> str | None:
    return " to ".join(format(bound, form) for bound in bounds) if images >= _FEWEST else None


def _names(some: Sequence[ErrorType]) -> list[str]:
    return [kind.name for kind in some]


def _score(result: ImageResult) -> float:
    return result.scores["dsb_score"]
