"""The network of protein localisation, its loss and its thresholds."""

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from sklearn.metrics import f1_score

from maskseg.core.errors import InputError
from maskseg.models.checkpoint import Checkpointer, spread_channels
from maskseg.models.config import load_config
from maskseg.projects.protein.data import CLASSES, class_table
from maskseg.projects.protein.evaluator import ProteinEvaluator, decide, tune_thresholds

SIDE = 32


@pytest.fixture(autouse=True)
def one_thread():
    """Sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(name="protein_small", *changes):
    torch.manual_seed(0)
    return build_model(load_config(name, ["MODEL.DEVICE", "cpu", "INPUT.CHANNELS", "['green']", *changes])).eval()


# ---- the network ----


def test_the_sizes_of_the_two_networks():
    weights = {
        name: sum(value.numel() for value in network(name).parameters()) for name in ("protein_small", "protein_R_18")
    }
    assert weights["protein_small"] == pytest.approx(2e5, rel=0.15)
    assert weights["protein_R_18"] == pytest.approx(2.8e6, rel=0.02)


def test_before_training_a_class_is_as_likely_as_in_the_mean_of_the_data():
    with torch.no_grad():
        assert float(network("protein_R_18")([sample(3)]).mean()) == pytest.approx(1.6 / 28, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_any_number_of_channels(channels):
    names = ["red", "green", "blue", "yellow"][:channels]
    model = network("protein_small", "INPUT.CHANNELS", str(names))
    image = torch.randint(0, 255, (channels, SIDE, SIDE), dtype=torch.uint8)
    with torch.no_grad():
        probabilities = model([{"image": image}, {"image": image}])
    assert probabilities.shape == (2, len(CLASSES))
    assert torch.allclose(probabilities[0], probabilities[1])


def test_one_channel_answers_as_three_equal_ones_did():
    filters = np.random.default_rng(0).normal(size=(5, 3, 7, 7)).astype(np.float32)
    grey = torch.rand(1, 1, 20, 20)
    colour = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), torch.tensor(filters))
    for channels in (1, 3, 6):
        fitted = torch.tensor(spread_channels(filters, channels))
        torch.testing.assert_close(torch.nn.functional.conv2d(grey.expand(-1, channels, -1, -1), fitted), colour)
    assert spread_channels(filters, 4).shape == (5, 4, 7, 7)
    assert np.array_equal(spread_channels(filters, 3), filters)


@pytest.mark.slow
def test_a_stored_backbone_starts_a_network_of_one_channel(tmp_path):
    # Stored as it stood in a network with a pyramid.
    rng = np.random.default_rng(0)
    model = network("protein_R_18")
    stored = {
        f"backbone.bottom_up.{name.removeprefix('backbone.')}": rng.normal(size=tuple(value.shape)).astype(np.float16)
        for name, value in model.state_dict().items()
        if name.startswith("backbone.") and "running" not in name
    }
    stem = "backbone.bottom_up.stem.conv1.weight"
    stored[stem] = rng.normal(size=(64, 3, 7, 7)).astype(np.float16)
    np.savez(tmp_path / "start.npz", **stored)
    Checkpointer(model).load(str(tmp_path / "start.npz"), checkpointables=[])
    state = model.state_dict()
    assert np.array_equal(
        state["backbone.stem.conv1.weight"], stored.pop(stem).astype(np.float32).sum(1, keepdims=True)
    )
    for name, value in stored.items():
        assert np.array_equal(state[name.replace("bottom_up.", "")], value.astype(np.float32)), name


def sample(*classes, odds=1.0):
    image = torch.full((1, SIDE, SIDE), 30, dtype=torch.uint8)
    labels = torch.tensor(class_table([classes])[0]).float()
    return {"image": image, "labels": labels, "odds": torch.full((len(CLASSES),), odds)}


def loss(model, samples):
    with torch.no_grad():
        return float(model.train()(samples)["loss_classes"])


@pytest.mark.slow
def test_the_weight_of_a_rare_class():
    plain = network("protein_R_18", "MODEL.CLASS_BALANCE", "0.0")
    squared = network("protein_R_18", "MODEL.CLASS_BALANCE", "2.0")
    assert loss(plain, [sample(3, odds=9.0)]) == pytest.approx(loss(plain, [sample(3)]))
    positive = loss(squared, [sample(3)])  # odds 1: no weight
    with torch.no_grad():
        missed = -float(torch.log(squared.eval()([sample(3)])[0, 3])) / len(CLASSES)
    assert loss(squared, [sample(3, odds=3.0)]) == pytest.approx(positive + (3**2 - 1) * missed, rel=1e-4)


@pytest.mark.slow
def test_focal_loss_heeds_the_hard_classes_more():
    focal, entropy = network("protein_R_18", "MODEL.CLASS_LOSS", "focal"), network("protein_R_18")
    hard, easy = [sample(3)], [sample(3)]
    for model in (focal, entropy):
        model.linear.bias.data[3] = -4.0
    before = loss(focal, hard), loss(entropy, hard)
    for model in (focal, entropy):
        model.linear.bias.data[3] = 4.0
    after = loss(focal, easy), loss(entropy, easy)
    assert before[0] / after[0] > before[1] / after[1] > 1


def test_an_unknown_loss_is_refused():
    with pytest.raises(InputError, match="choose one of bce, focal"):
        load_config("protein_small", ["MODEL.CLASS_LOSS", "hinge"])


# ---- thresholds ----


@pytest.mark.slow
def test_thresholds_have_the_greatest_f1():
    rng = np.random.default_rng(1)
    labels = rng.random((40, 3)) < [0.5, 0.1, 0]
    probabilities = np.clip(0.3 * labels + rng.random((40, 3)) * 0.7, 0, 1)
    thresholds = tune_thresholds(probabilities, labels)
    for number in (0, 1):
        tuned = f1_score(labels[:, number], probabilities[:, number] >= thresholds[number])
        tries = [f1_score(labels[:, number], probabilities[:, number] >= t) for t in np.linspace(0, 0.99, 34)]
        assert tuned >= max(tries)
        # Not at a value that occurs, where rounding would decide.
        assert np.abs(probabilities[:, number] - thresholds[number]).min() > 1e-5
    assert thresholds[2] == 0.5, "no positive says nothing about the threshold"


def test_every_image_gets_the_class_nearest_to_its_threshold():
    thresholds = np.array([0.5, 0.1, 0.9])
    chosen = decide(np.array([[0.6, 0.2, 0.1], [0.4, 0.05, 0.5], [0.2, 0.09, 0.6]]), thresholds)
    assert chosen.tolist() == [[True, True, False], [True, False, False], [False, True, False]]


class Known:
    """A predictor that gives what it was given."""

    def __init__(self, probabilities, thresholds):
        self.probabilities, self.thresholds = probabilities, thresholds

    def predict(self, image_id, files):
        return self.probabilities[image_id]


def test_macro_f1_counts_classes_without_an_image_as_nothing():
    truth = {"a": (0,), "b": (0, 1), "c": (1,), "d": (2,)}
    probabilities = dict(zip(truth, class_table(list(truth.values())) * 0.4, strict=True))
    probabilities["d"][2] = 0.2
    evaluator = ProteinEvaluator()
    for name, labels in truth.items():
        record = {"image_id": name, "file_name": name, "files": {}, "labels": labels}
        evaluator.measure(record, Known(probabilities, np.full(28, 0.3)))
    summary = evaluator.summary()
    # All right, by thresholds of 0.3 too: d has the nearest class.
    assert summary["macro_f1"] == summary["macro_f1_tuned"] == pytest.approx(3 / 28)
    assert summary["thresholds"][:4] == pytest.approx([0.2, 0.2, 0.1, 0.5])
    assert [row["images"] for row in summary["classes"][:4]] == [2, 2, 1, 0]
    table = evaluator.table(summary)
    assert "3 classes with an image" in table and "1.0000" in table and f"{3 / 28:.4f}" in table
    # The model takes the thresholds over.
    model = network()
    evaluator.keep(model, summary)
    assert model.state_dict()["thresholds"].tolist() == pytest.approx(summary["thresholds"])
