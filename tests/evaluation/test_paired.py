"""Two scores of each image: known tests on known numbers."""

import numpy as np
import pytest

from maskseg.evaluation.paired import paired, paired_by_modality, paired_table


def test_a_change_of_every_image_is_no_chance_and_chance_is_none():
    rng = np.random.default_rng(0)
    before = rng.uniform(0.2, 0.8, 60)
    surely = paired(before, before + 0.02 + rng.normal(0, 0.01, 60))
    assert surely["interval"][0] > 0 and max(surely["p_sign"], surely["p_wilcoxon"]) < 1e-6
    noise = rng.normal(0, 0.1, 60)
    perhaps = paired(before, before + noise - noise.mean())
    assert perhaps["interval"][0] < 0 < perhaps["interval"][1] and perhaps["p_wilcoxon"] > 0.1


def test_pairing_sees_what_two_intervals_would_not():
    before = np.linspace(0, 1, 40)
    found = paired(before, before + 0.01)
    assert found["interval"] == pytest.approx([0.01, 0.01])


def test_the_sign_test_by_hand_and_equal_images_left_out():
    found = paired([0.5] * 8, [0.6, 0.7, 0.8, 0.9, 0.4, 0.5, 0.5, 0.5])
    assert (found["better"], found["worse"], found["equal"]) == (4, 1, 3)
    # 1 or fewer of 5 on either side: 2 * (1 + 5) / 32.
    assert found["p_sign"] == pytest.approx(12 / 32)
    assert paired([0.5, 0.4], [0.5, 0.4])["p_wilcoxon"] == 1


def test_exchanging_the_two_changes_the_sign_only():
    rng = np.random.default_rng(1)
    a, b = rng.random(20), rng.random(20)
    one, other = paired(a, b), paired(b, a)
    assert one["difference"] == -other["difference"]
    assert one["p_wilcoxon"] == other["p_wilcoxon"] and one["p_sign"] == other["p_sign"]


def test_modalities_have_their_lines():
    found = paired_by_modality([0, 0, 1], [1, 1, 0.5], ["a", "", "a"])
    assert found["by_modality"]["a"]["difference"] == 0.25
    assert found["by_modality"]["unknown"]["images"] == 1
    lines = paired_table(found).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["a", "unknown", "all"]
    assert "+0.5000" in lines[-1]
