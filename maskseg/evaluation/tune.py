"""The settings of prediction chosen by search, on detections made once; the gain is measured out of fold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache as kept
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg.core.masks import CropMasks, SoftCrops
from maskseg.core.optional import need
from maskseg.data.dataset import MICRONS, load_record
from maskseg.data.split import stratified_split
from maskseg.evaluation.bootstrap import mean_interval
from maskseg.evaluation.detections import DetectionCache, Detections
from maskseg.evaluation.dsb import THRESHOLDS, at_thresholds
from maskseg.evaluation.matching import matches, overlaps
from maskseg.evaluation.reviewed import counted
from maskseg.formats.reviewed import region_of
from maskseg.imaging.exposure import Exposure, exposures
from maskseg.imaging.intensity import samples_of
from maskseg.imaging.scaling import input_scale
from maskseg.imaging.stains import EITHER
from maskseg.imaging.windows import ArraySource
from maskseg.inference.api import build_predictor
from maskseg.inference.rescale import at_pixel_size
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.tiling import TiledPredictor
from maskseg.inference.tta import VIEWS, View, assemble, views_of
from maskseg.models.zoo import Model

SCORE, SUPPRESSION = "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "MODEL.ROI_HEADS.NMS_THRESH_TEST"
# Every key that is searched and its values, in order; the model's own value is added where it is not among them.
SPACE: dict[str, tuple[Any, ...]] = {
    SCORE: (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95),
    SUPPRESSION: (0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    "POSTPROCESS.MASK_THRESHOLD": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7),
    "POSTPROCESS.TTA": ("none", "flip"),
    "POSTPROCESS.TTA_MIN_IOU": (0.1, 0.3, 0.5, 0.7),
    "POSTPROCESS.FRAGMENTS": ("drop", "keep_largest"),
    "POSTPROCESS.CLOSE": (False, True),
    "POSTPROCESS.MIN_AREA": (4, 10, 16, 24, 32, 48),
    "POSTPROCESS.RETRY_CANVAS": (1, 2, 4),
}

Settings = tuple[Any, ...]  # a value for each key of the space, in its order


class Trials:
    """The score of every image under any settings, each computed once; the network runs when this is made.

    Parameters
    ----------
    model : Model
    records : list of dict
        From `maskseg.data.dataset.dataset_dicts`.
    cache : Path
        Folder for the detections.

    Attributes
    ----------
    space : dict of key to tuple
        `SPACE` with the model's own values.
    own : tuple
        The model's own settings.
    done : dict of settings to float64 array (images,)
        The DSB score of each image, by settings tried.
    """

    def __init__(self, model: Model, records: Sequence[Mapping[str, Any]], cache: Path) -> None:
        self._cfg = model.cfg
        self.own: Settings = tuple(_value(model.cfg, key) for key in SPACE)
        self.space = {
            key: values if own in values else tuple(sorted((*values, own)))
            for (key, values), own in zip(SPACE.items(), self.own, strict=True)
        }
        self._cache = DetectionCache(model, cache, self.space[SCORE][0], self.space[SUPPRESSION])
        self._records = list(records)
        self._truth: list[NDArray[np.int32]] = []
        self._regions: list[NDArray[np.bool_] | None] = []
        self._found: dict[tuple[int, View, float], Detections] = {}
        self._ways: dict[int, Exposure] = {}
        self._predictor = kept(lambda: build_predictor(model.cfg, model.weights))
        self.done: dict[Settings, NDArray[np.float64]] = {}
        # The two views that most settings need; further ones are made when settings ask for them.
        for number, record in enumerate(tqdm(self._records, desc="detect", unit="image", disable=None)):
            image, truth = load_record(dict(record))
            self._truth.append(truth)
            self._regions.append(region_of(record, truth.shape))
            for view in VIEWS["flip"]:
                self._detections(number, view, 1.0, image)

    def scores(self, settings: Settings) -> NDArray[np.float64]:
        """DSB score of each image."""
        if settings not in self.done:
            cfg = self._cfg.clone()
            cfg.merge_from_list([item for pair in zip(self.space, settings, strict=True) for item in pair])
            self.done[settings] = np.array(
                [
                    _dsb_score(truth, self.segment(number, cfg).to_labels(), region)
                    for number, (truth, region) in enumerate(zip(self._truth, self._regions, strict=True))
                ]
            )
        return self.done[settings]

    def segment(self, number: int, cfg: CfgNode) -> CropMasks:
        """Final masks of an image, as `Predictor.segment` has them under this config, in one piece."""
        shape, heads, record = self._truth[number].shape, cfg.MODEL.ROI_HEADS, self._records[number]
        settings = PostprocessSettings.from_config(cfg)
        settings = at_pixel_size(settings, cfg.INPUT, record.get(MICRONS), record["file_name"])
        suppression = self.space[SUPPRESSION].index(heads.NMS_THRESH_TEST)

        def look(view: View, magnify: float) -> SoftCrops:
            detections = self._detections(number, view, magnify)
            soft = detections.select(heads.SCORE_THRESH_TEST, suppression, cfg.TEST.DETECTIONS_PER_IMAGE)
            return view.undo_crops(SoftCrops.paste(soft.masks, soft.boxes, view.shape(shape), soft.scores))

        expected = cfg.INPUT.NUCLEUS_DIAMETER / input_scale(shape, cfg.INPUT.LONG_SIDE, cfg.INPUT.SHRINK)
        return assemble(look, settings, views_of(settings.tta), expected)

    def _way(self, number: int, image: NDArray[np.uint8]) -> Exposure:
        """How an image is seen; stained tissue as the model chooses under its own settings."""
        if number not in self._ways:
            inputs, record = self._cfg.INPUT, self._records[number]
            if inputs.STAINED == EITHER:
                predictor = self._predictor().at_pixel_size(record.get(MICRONS), record["file_name"])
                assert isinstance(predictor, TiledPredictor), "a Mask R-CNN, as the cache has checked"
                self._ways[number] = predictor.exposure_of(ArraySource(image))
            else:
                (self._ways[number],) = exposures(lambda: samples_of(image), inputs.NORMALIZE, inputs.STAINED)
        return self._ways[number]

    def _detections(
        self, number: int, view: View, magnify: float, image: NDArray[np.uint8] | None = None
    ) -> Detections:
        key = number, view, magnify
        if key not in self._found:
            record = self._records[number]
            if image is None:
                image, _ = load_record(dict(record))
            way = self._way(number, image)
            name = record["image_id"] + ("-density" if way.stained else "")
            self._found[key] = self._cache.get(name, way.of(image), view, magnify)
        return self._found[key]


@dataclass(frozen=True)
class Tuned:
    """Outcome of `tune`; the score arrays have an entry for each image.

    Attributes
    ----------
    own, best : dict
        The model's own settings and those chosen on all images.
    before, after : float64 arrays (images,)
        Their scores. `after` flatters: the settings were chosen on these images.
    held_out : float64 array (images,)
        Score of each image under the settings chosen on the other folds.
    by_fold : list of dict
        Settings chosen without that fold.
    """

    own: dict[str, Any]
    best: dict[str, Any]
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    held_out: NDArray[np.float64]
    by_fold: list[dict[str, Any]]

    def gain(self) -> tuple[float, float, float]:
        """Mean out-of-fold gain and its 95 % interval."""
        gains = self.held_out - self.before
        return float(gains.mean()), *mean_interval(gains)


# The score of each image under some settings, and from it, the start and the space the best settings.
Score = Callable[[Settings], NDArray[np.float64]]
Search = Callable[[Score, Settings, Mapping[str, tuple[Any, ...]]], Settings]


def search_grid(score: Score, start: Settings, space: Mapping[str, tuple[Any, ...]], rounds: int = 4) -> Settings:
    """One key after the other set to its best value, the others held, until a round changes nothing.

    A value is changed only where the mean gain over the images is more than its standard error: of many settings that
    are equally good some look better by chance.
    """
    best = start
    for _ in range(rounds):
        before = best
        for place, values in enumerate(space.values()):
            row = [(*best[:place], value, *best[place + 1 :]) for value in values]
            highest = max(row, key=lambda settings: score(settings).mean())
            gains = score(highest) - score(best)
            if gains.mean() > standard_error(gains):
                best = highest
        if best == before:
            break
    return best


def standard_error(values: NDArray[np.float64]) -> float:
    """Standard error of the mean of values."""
    return float(values.std() / np.sqrt(len(values)))


def optuna_search(trials: int, seed: int) -> Search:
    """A search by Optuna's tree-structured Parzen estimator over the positions in the lists of values.

    Raises
    ------
    InputError
        If Optuna is not installed.
    """
    optuna = need("optuna", "tune", "--search optuna (grid needs nothing)")
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def search(score: Score, start: Settings, space: Mapping[str, tuple[Any, ...]]) -> Settings:
        def objective(trial: Any) -> float:
            return float(score(tuple(v[trial.suggest_int(key, 0, len(v) - 1)] for key, v in space.items())).mean())

        study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
        study.enqueue_trial({key: v.index(own) for (key, v), own in zip(space.items(), start, strict=True)})
        study.optimize(objective, n_trials=trials)
        return tuple(v[study.best_params[key]] for key, v in space.items())

    return search


def tune(
    trials: Trials, search: Search, ids: Sequence[str], modalities: Sequence[str], folds: int = 5, seed: int = 1
) -> Tuned:
    """Choose settings on all images, and measure by cross-validation what such a choice is worth.

    Parameters
    ----------
    trials : Trials
    search : function
        `search_grid`, or what `optuna_search` gives.
    ids, modalities : sequences of str
        Of the images, in their order.
    folds : int
        Folds of equal shares of each modality.
    seed : int

    Raises
    ------
    InputError
        If there are fewer images than folds.
    """
    fold_of = stratified_split(ids, modalities, [""] * len(ids), {str(k): 1 / folds for k in range(folds)}, seed)
    fold = np.array([int(fold_of[name]) for name in ids])
    before = trials.scores(trials.own)
    held_out, by_fold = np.empty_like(before), []

    with tqdm(desc="search", unit="trial", disable=None) as bar:

        def best_on(images: NDArray[np.bool_]) -> Settings:
            def score(settings: Settings) -> NDArray[np.float64]:
                values = trials.scores(settings)[images]
                bar.update(len(trials.done) - bar.n)
                return values

            return search(score, trials.own, trials.space)

        best = best_on(np.ones(len(ids), bool))
        for k in range(folds):
            chosen = best_on(fold != k)
            held_out[fold == k] = trials.scores(chosen)[fold == k]
            by_fold.append(dict(zip(trials.space, chosen, strict=True)))
    own, tuned = (dict(zip(trials.space, settings, strict=True)) for settings in (trials.own, best))
    return Tuned(own, tuned, before, trials.scores(best), held_out, by_fold)


def _dsb_score(
    truth: NDArray[np.int32], prediction: NDArray[np.int32], region: NDArray[np.bool_] | None = None
) -> float:
    """The score of `maskseg.evaluation.dsb.image_scores` without all the others, of what was reviewed."""
    if region is not None:
        truth, prediction = counted(truth, prediction, region)
    pairs = overlaps(truth, prediction)
    true_positives = [matches(pairs, percent).sum() for percent in THRESHOLDS]
    return float(at_thresholds(len(pairs.truth_areas), len(pairs.pred_areas), true_positives)["ap"].mean())


def _value(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
