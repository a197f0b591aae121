"""``maskseg report run`` on sample images with errors made on purpose."""

import re
import shutil

import numpy as np
import pytest

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.dsb import image_scores
from maskseg.formats.coco import write_predictions
from maskseg.formats.labels import write_labels
from tests.fixtures.converting import convert_folders as convert

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def truth(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    images = sorted(repository.glob("datasets/sample/heldout/*/images/*.png"), key=lambda path: path.stat().st_size)
    for path in images[:4]:
        shutil.copytree(path.parent.parent, folder / "folders" / path.stem)
    convert(folder / "folders", folder / "data", progress=False)
    return folder / "data"


@pytest.fixture(scope="module")
def runs(truth, tmp_path_factory):
    """A run that loses the first nucleus of each image and invents one, one that loses half; and the scores."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(1)
    scores: dict[str, list[float]] = {"good": [], "bad": []}
    for name in scores:
        predicted = []
        for record in dataset_dicts(str(truth)):
            _, labels = load_record(record)
            masks = CropMasks.from_labels(labels)
            found = masks[slice(1, None) if name == "good" else slice(0, len(masks) // 2)]
            found.scores = rng.uniform(0.8, 1, len(found)).astype(np.float32)
            image = found.to_labels()
            image[0:6, 0:6] = np.where(image[0:6, 0:6] > 0, image[0:6, 0:6], image.max() + 1)
            scores[name].append(image_scores(labels, image)["dsb_score"])
            write_labels(folder / name / "labels" / f"{record['image_id']}.tif", image)
            final = CropMasks.from_labels(image)
            final.scores = np.append(found.scores, np.float32(0.81))[: len(final)]
            predicted.append((f"{record['image_id']}.png", final))
        write_predictions(folder / name / "predictions.json", predicted)
    return folder, {name: float(np.mean(values)) for name, values in scores.items()}


@pytest.fixture
def report(maskseg, tmp_path):
    def run(*arguments):
        status, _, err = maskseg("report", "run", *arguments, "-o", tmp_path / "report.html")
        page = tmp_path / "report.html"
        return status, err, page.read_text(encoding="utf-8") if page.is_file() else ""

    return run


def test_the_page_has_the_scores_of_both_runs_and_needs_no_network(report, truth, runs):
    folder, scores = runs
    status, err, html = report("--truth", truth, "--pred", folder / "good", "--compare", folder / "bad")
    assert status == 0, err
    text = re.sub(r"<[^>]*>", " ", html)
    assert f"{scores['good']:.3f}" in text
    assert f"{scores['good'] - scores['bad']:+.3f}" in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", html)
    assert "1 missed" in text and "1 extra" in text
    assert "share of them that is right" in text
    assert len(html) < 15e6


def test_without_detection_scores_it_says_so(report, truth, runs):
    status, err, html = report("--truth", truth, "--pred", runs[0] / "good" / "labels")
    assert status == 0, err
    assert "no detection scores" in html


def test_an_image_without_prediction_is_named_and_counts_as_nothing_found(report, truth, runs, tmp_path):
    shutil.copytree(runs[0] / "good" / "labels", tmp_path / "labels")
    gone = sorted((tmp_path / "labels").iterdir())[0]
    gone.unlink()
    status, err, html = report("--truth", truth, "--pred", tmp_path / "labels")
    assert status == 2
    assert gone.stem in err
    assert "counted as nothing found" in html


def test_nothing_in_common_is_one_line(report, truth, tmp_path):
    write_labels(tmp_path / "other" / "x.tif", np.ones((5, 5), np.uint16))
    status, err, html = report("--truth", truth, "--pred", tmp_path / "other")
    assert status == 2
    assert "no image in common" in err and "Traceback" not in err
    assert not html
