"""Instances from probabilities: what touches is split at its necks and nowhere else."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from maskseg.core.morphology import components
from maskseg.projects.unet.instances import instances, split_touching


def discs(*circles: tuple[int, int, int], shape: tuple[int, int] = (60, 90)) -> np.ndarray:
    """Foreground of circles (x, y, radius)."""
    image = np.zeros(shape, np.uint8)
    for x, y, radius in circles:
        cv2.circle(image, (x, y), radius, 1, -1)
    return image > 0


@pytest.mark.parametrize("radius", [5, 8, 14, 25])
def test_two_discs_that_touch_are_two_whatever_their_size(radius):
    apart = int(1.8 * radius)
    foreground = discs((30, 30, radius), (30 + apart, 30, radius))
    assert len(components(foreground)[1]) == 1
    labels = split_touching(foreground, 0.85)
    assert labels.max() == 2
    assert np.array_equal(labels > 0, foreground), "no pixel is lost"
    assert labels[30, 30] != labels[30, 30 + apart]
    # Cut in the middle.
    areas = np.bincount(labels.ravel())[1:]
    assert areas.max() < 1.2 * areas.min()


@pytest.mark.parametrize("radius", [1, 2, 3, 8, 20])
def test_one_disc_is_one(radius):
    foreground = discs((30, 30, radius))
    assert np.array_equal(split_touching(foreground, 0.85), foreground)


def test_an_ellipse_has_no_neck():
    foreground = np.zeros((60, 90), np.uint8)
    cv2.ellipse(foreground, (45, 30), (40, 12), 20, 0, 360, 1, -1)
    assert split_touching(foreground > 0, 0.85).max() == 1


def test_how_narrow_a_neck_is_decides():
    foreground = discs((30, 30, 14), (50, 30, 14))
    counts = [split_touching(foreground, neck).max() for neck in (0.5, 0.7, 0.95)]
    assert counts == [1, 1, 2]


def test_a_small_one_beside_large_ones_is_not_lost():
    foreground = discs((20, 30, 18), (75, 10, 2), (75, 40, 9))
    labels = split_touching(foreground, 0.85)
    assert labels.max() == 3
    assert np.array_equal(labels, split_touching(foreground, 0.85))
    # Each component is a label of its own, whatever else is in the image.
    assert all(len(np.unique(labels[place][labels[place] > 0])) == 1 for place in ndimage.find_objects(labels))


def test_diagonal_neighbours_are_connected():
    foreground = np.eye(5, dtype=bool)
    assert len(components(foreground)[1]) == 1


@pytest.mark.parametrize("method", ["components", "watershed", "largest"])
def test_scores_are_mean_probabilities(method):
    probability = np.full((20, 40), 0.1, np.float32)
    probability[2:8, 2:8] = 0.6
    probability[10:18, 20:30] = 0.9
    probability[10, 20:30] = 0.5
    masks = instances(probability, 0.5, method, 0.8)
    # Of the two the larger one alone, where only one is wanted.
    first = 1 if method == "largest" else 0
    assert masks.areas.tolist() == [36, 80][first:]
    assert masks.scores.tolist() == pytest.approx([0.6, (70 * 0.9 + 10 * 0.5) / 80][first:])
    assert len(instances(probability, 0.95, method, 0.8)) == 0
    assert len(instances(np.ones((9, 9), np.float32), 0.5, method, 0.8)) == 1
