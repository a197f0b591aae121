"""Which image comes when."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.training.sampler import EpochSampler, modality_weights, with_shares


def draws(weights, count, seed=1, start=0, **ranks):
    sampler = EpochSampler(np.asarray(weights, float), seed, **ranks)
    sampler.start = start
    return list(islice(sampler, count))


@given(st.integers(1, 60), st.integers(0, 5))
def test_with_equal_weights_an_epoch_is_a_permutation(size, seed):
    sampler = EpochSampler(np.ones(size), seed)
    for number in range(3):
        assert sorted(sampler.epoch(number)) == list(range(size))


def test_epochs_and_seeds_differ():
    orders = {tuple(EpochSampler(np.ones(50), seed).epoch(number)) for seed in range(3) for number in range(3)}
    assert len(orders) == 9


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=40), st.integers(0, 5))
def test_an_image_comes_as_often_as_its_weight_says(raw, seed):
    weights = np.array(raw) / np.mean(raw)
    counts = np.bincount(EpochSampler(weights, seed).epoch(0), minlength=len(weights))
    assert counts.sum() == len(weights)
    # The tolerance is for weights that are whole numbers up to rounding.
    assert (counts >= np.floor(weights - 1e-9)).all()
    assert (counts <= np.ceil(weights + 1e-9)).all()


def test_over_many_epochs_the_mean_is_the_weight():
    weights = np.array([0.3, 0.7, 1.5, 1.5, 0.5, 1.5])
    sampler = EpochSampler(weights, 4)
    counts = sum(np.bincount(sampler.epoch(number), minlength=6) for number in range(2000))
    assert np.allclose(counts / 2000, weights, atol=0.04)


@pytest.mark.parametrize("start", [0, 1, 6, 7, 20])
def test_starting_late_gives_the_draws_that_were_left(start):
    weights = np.array([0.5, 1.5, 1.0, 0.25, 1.75, 1.0, 1.0])
    assert draws(weights, 15, start=start) == draws(weights, 15 + start)[start:]


def test_positions_count_up():
    assert [position for position, _ in draws(np.ones(4), 9, start=3)] == list(range(3, 12))


def test_processes_share_the_draws():
    weights = np.array([0.5, 1.5, 1.0, 0.25, 1.75])
    both = [draws(weights, 8, start=4, rank=rank, world_size=2) for rank in range(2)]
    assert not set(both[0]) & set(both[1])
    assert sorted(both[0] + both[1]) == draws(weights, 16, start=4)


def test_a_modality_weighs_by_its_number_of_images():
    modalities = ["white"] * 16 + ["purple"] * 4
    assert modality_weights(modalities, 0.0).tolist() == [1.0] * 20
    half = modality_weights(modalities, 0.5)
    assert half.mean() == pytest.approx(1)
    # 16 images at 16 ** -1/2 against 4 at 4 ** -1/2: twice the images make twice the draws, not four times.
    assert half[16] / half[0] == pytest.approx(2)
    full = modality_weights(modalities, 1.0)
    assert full[:16].sum() == pytest.approx(full[16:].sum())


def test_each_data_set_gets_its_share_of_the_draws():
    # 30 images of our own in two modalities, 6 mosaics, 4 images from elsewhere; 70, 20 and 10 in 100 draws.
    sets = [0] * 30 + [1] * 6 + [2] * 4
    within = modality_weights(["white"] * 20 + ["purple"] * 20, 1.0)
    weights = with_shares(within, sets, (7, 2, 1))
    assert weights.mean() == pytest.approx(1)
    assert np.bincount(sets, weights) == pytest.approx([28, 8, 4])
    # What is balanced within a data set stays so.
    assert weights[:30] / weights[0] == pytest.approx(within[:30] / within[0])
    drawn = np.bincount([sets[index] for _, index in draws(weights, 40 * 200)])
    assert drawn / drawn.sum() == pytest.approx([0.7, 0.2, 0.1], abs=0.001)
    assert with_shares(within, sets, (1, 0, 0))[30:].tolist() == [0] * 10


@pytest.mark.parametrize("shares", [(1,), (1, 1, 1, 1), (1, -1, 1), (0, 0, 0), (1, 1, 0, 1), (1, float("nan"), 1)])
def test_shares_that_cannot_be_had_are_refused(shares):
    with pytest.raises(InputError, match=r"^DATASETS\.TRAIN_SHARES is \("):
        with_shares(np.ones(4), [0, 0, 1, 2], shares)


@pytest.mark.parametrize(("share", "least", "most"), [((0.5, 1.0), 20, 40), ((0.2, 0.2), 8, 8), ((0.001, 0.002), 1, 1)])
def test_an_epoch_may_be_a_random_share(share, least, most):
    sampler = EpochSampler(np.ones(40), 3, share=share)
    epochs = [sampler.epoch(number).tolist() for number in range(200)]
    assert all(len(set(epoch)) == len(epoch) for epoch in epochs)
    assert (min(map(len, epochs)), max(map(len, epochs))) == (least, most)
    assert set().union(*epochs) == set(range(40))
    two = [*epochs[0], *epochs[1]]
    assert draws(np.ones(40), len(two), seed=3, share=share) == list(enumerate(two))
    everything = draws(np.ones(40), 120, share=share)
    for start in (1, 39, 95):
        assert draws(np.ones(40), 120 - start, start=start, share=share) == everything[start:]
