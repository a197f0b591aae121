"""The search over the settings: it runs the predictor's own code, finds what is there, and is not fooled by chance."""

import csv

import numpy as np
import pytest
import yaml
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation import tune as module
from maskseg.evaluation.dsb import image_scores
from maskseg.evaluation.tune import Trials, optuna_search, search_grid, tune
from maskseg.evaluation.tune_output import write_plot, write_settings, write_trials
from maskseg.imaging.stains import is_stained
from maskseg.inference.api import build_predictor
from maskseg.models.zoo import find_model
from tests.fixtures.converting import convert_folders as convert

CPU = ["MODEL.DEVICE", "cpu"]


@pytest.fixture(scope="module")
def records(repository, tmp_path_factory):
    """The two smallest sample images, and the smallest of stained tissue, which may be seen in two ways."""
    folder = tmp_path_factory.mktemp("sample")
    convert(repository / "datasets/sample/heldout", folder, progress=False)
    smallest = sorted(dataset_dicts(str(folder)), key=lambda record: record["height"] * record["width"])
    return [*smallest[:2], next(record for record in smallest if is_stained(load_record(record)[0]))]


@pytest.fixture(scope="module")
def trials(records, tmp_path_factory):
    return Trials(find_model("nuclei", CPU), records, tmp_path_factory.mktemp("cache"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"POSTPROCESS.MASK_THRESHOLD": 0.35, "POSTPROCESS.FRAGMENTS": "keep_largest", "POSTPROCESS.MIN_AREA": 4},
        {module.SCORE: 0.3, module.SUPPRESSION: 0.7, "POSTPROCESS.TTA": "none", "POSTPROCESS.CLOSE": False},
        {module.SCORE: 0.95, "POSTPROCESS.TTA_MIN_IOU": 0.7, "POSTPROCESS.RETRY_CANVAS": 2},
    ],
)
def test_a_trial_has_the_score_of_an_ordinary_prediction_under_its_settings(trials, records, changes):
    chosen = dict(zip(trials.space, trials.own, strict=True)) | changes
    model = find_model("nuclei", [*CPU, *(str(item) for pair in chosen.items() for item in pair)])
    predictor = build_predictor(model.cfg, model.weights)
    expected = []
    for record in records:
        image, truth = load_record(record)
        expected.append(image_scores(truth, predictor.segment(image).to_labels())["dsb_score"])
    # Kept masks are rounded to 1 / 255, so single pixels of an outline may differ.
    np.testing.assert_allclose(trials.scores(tuple(chosen.values())), expected, atol=0.01)
    assert min(expected) < 1


@pytest.mark.slow
def test_a_trial_sees_an_image_by_the_size_of_its_pixels_as_a_prediction_does(records, tmp_path):
    record = {**records[0], "microns_per_pixel": 0.5}
    model = find_model("nuclei", [*CPU, "INPUT.MPP", "0.35"])
    trials = Trials(model, [record], tmp_path)
    predictor, (image, truth) = build_predictor(model.cfg, model.weights), load_record(record)
    expected, other = (
        image_scores(truth, one.segment(image).to_labels())["dsb_score"]
        for one in (predictor.at_pixel_size(0.5), predictor)
    )
    assert trials.scores(trials.own) == pytest.approx([expected], abs=0.01)
    assert abs(expected - other) > 0.02


class Landscape:
    """Stands for `Trials`: the score of an image is a given function of the settings, its own noise added."""

    def __init__(self, gain: float, noise: float, images: int = 60, seed: int = 0):
        self.space = {"A.X": tuple(range(10)), "A.Y": tuple(range(10)), "B.Z": (False, True)}
        self.own = (1, 8, False)
        self.gain, self.noise, self.images, self.seed = gain, noise, images, seed
        self.done = {}

    def scores(self, settings):
        if settings not in self.done:
            x, y, z = settings
            rng = np.random.default_rng([self.seed, x, y, z])
            base = self.gain * (1 - ((x - 6) ** 2 + (y - 3) ** 2) / 50 + 0.1 * z)
            self.done[settings] = 0.5 + base + rng.normal(0, self.noise, self.images)
        return self.done[settings]


def run(landscape, search=search_grid):
    count = landscape.images
    return tune(landscape, search, [f"i{n}" for n in range(count)], ["a", "b"] * (count // 2))


@pytest.mark.slow
@pytest.mark.parametrize("search", [search_grid, optuna_search(150, 3)])
def test_a_true_gain_is_found_and_holds_out_of_fold(search):
    tuned = run(Landscape(gain=0.2, noise=0.01), search)
    assert np.abs(np.array(list(tuned.best.values())) - (6, 3, 1)).max() <= 1
    mean, low, high = tuned.gain()
    # From (1, 8, False) to (6, 3, True) the landscape rises by 0.2 * (50 / 50 + 0.1).
    assert mean == pytest.approx(0.22, abs=0.02)
    assert mean - 0.01 < low < mean < high < mean + 0.01


@pytest.mark.slow
def test_chance_is_not_taken_for_a_gain():
    """Where no setting matters, the best of many looks better on the images that it was chosen on, and only there."""
    tuned = [run(Landscape(gain=0.0, noise=0.3, seed=seed)) for seed in range(12)]
    seen = np.mean([(one.after - one.before).mean() for one in tuned])
    assert seen > 0.04
    assert np.mean([one.gain()[0] for one in tuned]) < seen / 3
    assert sum(one.gain()[1] > 0 for one in tuned) <= 2


def test_an_image_does_not_lead_the_choice_that_it_is_scored_under():
    plain, led = Landscape(0.0, 0.3), Landscape(0.0, 0.3)
    led.scores((9, 8, False))[0] += 1000
    without, tuned = run(plain), run(led)
    assert tuned.best["A.X"] == 9
    blind = [settings["A.X"] != 9 for settings in tuned.by_fold]
    assert sum(blind) == 1
    assert tuned.by_fold[blind.index(True)] == without.by_fold[blind.index(True)]
    assert tuned.held_out[0] == without.held_out[0]


@pytest.mark.slow
def test_a_search_repeats_itself():
    one, other = (run(Landscape(0.1, 0.1), optuna_search(40, 7)) for _ in range(2))
    assert one.by_fold == other.by_fold
    np.testing.assert_array_equal(one.held_out, other.held_out)


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"^--search optuna .*pip install 'maskseg\[tune\]'"):
        optuna_search(10, 1)


@pytest.mark.slow
def test_what_is_written(tmp_path):
    landscape = Landscape(0.2, 0.01)
    tuned = run(landscape)
    write_plot(tmp_path / "tune.png", landscape, tuned)
    write_trials(tmp_path / "trials.csv", landscape, ["a", "b"] * 30)
    write_settings(tmp_path / "postprocess.yaml", tuned, "somewhere:dev")
    assert yaml.safe_load((tmp_path / "postprocess.yaml").read_text()) == {
        "A": {"X": tuned.best["A.X"], "Y": tuned.best["A.Y"]},
        "B": {"Z": tuned.best["B.Z"]},
    }
    rows = list(csv.DictReader((tmp_path / "trials.csv").open()))
    assert len(rows) == len(landscape.done)
    assert {key: str(value) for key, value in tuned.best.items()}.items() <= rows[0].items()
    for row in rows[:3]:
        scores = landscape.scores((int(row["A.X"]), int(row["A.Y"]), row["B.Z"] == "True"))
        assert float(row["dsb_score"]) == pytest.approx(scores.mean(), abs=1e-5)
        assert float(row["b"]) == pytest.approx(scores[1::2].mean(), abs=1e-5)
    assert min(Image.open(tmp_path / "tune.png").size) > 200
