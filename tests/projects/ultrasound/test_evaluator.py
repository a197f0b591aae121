import re

import numpy as np
import pytest

from maskseg.core.masks import CropMasks
from maskseg.projects.ultrasound.evaluator import NerveEvaluator

SHAPE = (20, 30)


def square(x=5, side=6):
    labels = np.zeros(SHAPE, np.int32)
    labels[5 : 5 + side, x : x + side] = 1
    return labels


def evaluated(*frames):
    """Summary of frames, each of true and predicted labels."""
    evaluator = NerveEvaluator()
    for number, (truth, found) in enumerate(frames):
        record = {"file_name": f"1_{number}.tif", "modality": "nerve" if truth.any() else "empty"}
        evaluator.add(record, truth, CropMasks.from_labels(found))
    return evaluator, evaluator.summary()


EMPTY = np.zeros(SHAPE, np.int32)


@pytest.mark.parametrize(
    ("truth", "found", "dice"),
    [
        (EMPTY, EMPTY, 1.0),
        (EMPTY, square(), 0.0),
        (square(), EMPTY, 0.0),
        (square(), square(), 1.0),
        (square(), square(8), 0.5),  # 18 of 36 and 36 pixels in common
        (square(), square(side=3), 2 * 9 / (36 + 9)),
    ],
)
def test_dice_by_hand_with_one_for_nothing_on_nothing(truth, found, dice):
    _, summary = evaluated((truth, found))
    assert summary["dice"] == pytest.approx(dice, abs=1e-12)


def test_frames_with_and_without_a_nerve_stand_apart_beside_a_model_that_never_finds_one():
    frames = [(square(), square(8)), (EMPTY, EMPTY), (EMPTY, square()), (EMPTY, EMPTY), (square(), EMPTY)]
    evaluator, summary = evaluated(*frames)
    assert summary["by_modality"]["nerve"]["dice"] == pytest.approx(0.25)
    assert summary["by_modality"]["empty"]["dice"] == pytest.approx(2 / 3)
    assert summary[evaluator.score] == pytest.approx(2.5 / 5)
    never = evaluated(*((truth, EMPTY) for truth, _ in frames))[1]
    assert summary["dice_all_empty"] == never["dice"] == pytest.approx(3 / 5)
    figures = [re.findall(r"^([a-z, ]+?)  +(\d\.\d{4})", line)[0] for line in evaluator.table(summary).splitlines()[1:]]
    assert figures == [
        ("without", "0.6667"), ("with a nerve", "0.2500"), ("all", "0.5000"), ("all, never a nerve", "0.6000"),
    ]  # fmt: skip
