"""The same figures from independent software, on random label images with exact ties."""

import runpy

import numpy as np
import pytest

from maskseg.evaluation.matching import matches, overlaps


@pytest.fixture(scope="module")
def benchmark(repository):
    return runpy.run_path(str(repository / "benchmarks" / "evaluate.py"))


@pytest.fixture(scope="module")
def pairs(benchmark):
    return benchmark["random_pairs"](200)


@pytest.mark.slow
def test_the_pairs_hold_ties_at_many_thresholds_and_halves(benchmark, pairs):
    ties = np.zeros(len(benchmark["THRESHOLDS"]), int)
    for truth, found, _ in pairs:
        some = overlaps(truth, found)
        ties += [matches(some, t, True).sum() - matches(some, t).sum() for t in benchmark["THRESHOLDS"]]
    assert ties[0] > 20
    assert (ties > 0).sum() >= 4


@pytest.mark.slow
def test_coco_mask_ap_is_that_of_pycocotools(benchmark, pairs):
    found = benchmark["against_pycocotools"](pairs)
    assert max(found.values()) < 1e-6, found


def test_detections_beyond_the_first_hundred_of_an_image_count(benchmark):
    from maskseg.evaluation.results import coco_ap, compare_image

    truth = np.arange(1, 151).repeat(4).reshape(15, 40)
    pair = (truth, truth, np.linspace(1, 0.5, 150).astype(np.float32))
    assert coco_ap([compare_image(*pair)])["ap"] == benchmark["pycocotools_precision"]([pair]).mean() == 1


def test_counts_and_panoptic_quality_are_those_of_stardist(benchmark, pairs):
    pytest.importorskip(
        "stardist.matching",
        reason="stardist is not installed; see benchmarks/evaluate.py --help",
    )
    found = benchmark["against_stardist"](pairs)
    assert max(found.values()) < 1e-6, found
