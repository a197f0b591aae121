"""``tools/train_net.py`` on three real images, end to end."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from maskseg.cli import main as cli
from maskseg.data.split import read_split

pytestmark = pytest.mark.slow

# A narrow network on small pictures; two iterations.
QUICK = {
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "INPUT.LONG_SIDE": "64",
    "INPUT.SHRINK": "True",
    "INPUT.AUG.WINDOW": "64",
    "DATALOADER.NUM_WORKERS": "1",
    "SOLVER.IMS_PER_BATCH": "2",
    "SOLVER.MAX_ITER": "2",
}


@pytest.fixture(scope="module")
def dataset(converted):
    """Two images to train on, one to choose by."""
    return converted("train", "train", "dev")


def arguments(dataset, out, *more: str) -> list[str]:
    pairs = {**QUICK, "DATASETS.TRAIN": f"('{dataset}:train',)", "DATASETS.TEST": f"('{dataset}:dev',)"}
    overrides = [text for key, value in {**pairs, "OUTPUT_DIR": str(out)}.items() for text in (key, value)]
    return ["--config-file", "nuclei_R_18_FPN", "--num-gpus", "0", *more, *overrides]


@pytest.fixture(scope="module")
def finished(repository, dataset, tmp_path_factory):
    """The folder of a training of two iterations, in a process of its own, and what it said."""
    out = tmp_path_factory.mktemp("trained") / "run"
    command = [sys.executable, str(repository / "tools" / "train_net.py"), *arguments(dataset, out)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return out, done


def test_a_training_leaves_weights_figures_and_its_config(finished):
    out, done = finished
    assert {"model_final.pth", "model_best.pth", "last_checkpoint", "config.yaml", "metrics.json", "log.txt"} <= {
        path.name for path in out.iterdir()
    }
    assert list(out.glob("events.*")), "TensorBoard"
    assert (out / "last_checkpoint").read_text() == "model_final.pth"
    rows = [json.loads(line) for line in (out / "metrics.json").read_text().splitlines()]
    # A figure that only an earlier iteration had stands in a line of its own.
    last = max(rows, key=lambda row: row["iteration"])
    assert {"total_loss", "lr", "validation/total_loss", "validation/dsb_score"} <= last.keys()
    assert "iteration 2: validation loss" in done.stdout
    assert "mean IoU (DSB score)" in done.stdout
    assert "2 of 2" in done.stderr, "the bar"


def test_eval_only_scores_what_the_training_led_to(finished, dataset, maskseg):
    out, _ = finished
    # The address from which it started is no longer of interest, nor to be had.
    config = out.parent / "mine.yaml"
    text = (out / "config.yaml").read_text()
    assert "  WEIGHTS: ''" in text
    config.write_text(text.replace("  WEIGHTS: ''", "  WEIGHTS: detectron2://ImageNetPretrained/MSRA/R-50.pkl"))
    status, said, errors = maskseg("train", "--config-file", config, "--num-gpus", 0, "--eval-only")
    assert status == 0, errors
    assert f"model_best.pth on {dataset}:dev" in said
    lines = said.splitlines()
    head = next(number for number, line in enumerate(lines) if "mean IoU (DSB score)" in line)
    assert [line.split("  ")[0] for line in lines[head + 1 : head + 3]] == ["white on black", "all"]
    written = json.loads((out / "evaluation_data_dev.json").read_text())
    assert (written["weights"], written["images"]) == ("model_best.pth", 1)
    assert f"{written['dsb_score']:.4f}" in lines[head + 2]


def test_a_damaged_image_ends_it_in_one_line(dataset, maskseg, tmp_path):
    shutil.copytree(dataset, tmp_path / "data")
    for path in (tmp_path / "data" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    status, said, errors = maskseg("train", *arguments(tmp_path / "data", tmp_path / "run"))
    assert status == 2
    assert "Traceback" not in said + errors
    assert ".png: " in errors.strip().splitlines()[-1]
    assert errors.strip().splitlines()[-1].startswith("maskseg: error: ")


def refused(monkeypatch, capsys, *words: str) -> str:
    """The one line on stderr that a command ends with."""
    monkeypatch.setattr(sys, "argv", ["maskseg", "train", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("maskseg: error: ")
    assert message.count("\n") == 1
    return message


def test_a_folder_that_holds_a_training_is_not_written_over(finished, dataset, monkeypatch, capsys):
    out, _ = finished
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert "holds a training already; add --resume" in refused(monkeypatch, capsys, *arguments(dataset, out))
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_weights_of_other_anchors_are_not_scored(finished, dataset, monkeypatch, capsys):
    out, _ = finished
    words = arguments(dataset, out, "--eval-only")
    message = refused(monkeypatch, capsys, *words, "MODEL.ANCHOR_GENERATOR.SIZES", "[[8], [16], [32], [64]]")
    assert "model_best.pth: trained with anchors of [[12], [24], [48], [96]]" in message
    assert "[[8], [16], [32], [64]]" in message


def test_a_training_does_not_go_on_under_other_anchors(finished, dataset, monkeypatch, capsys):
    out, _ = finished
    before = (out / "config.yaml").read_bytes()
    words = arguments(dataset, out, "--resume")
    message = refused(monkeypatch, capsys, *words, "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[1.0]]")
    assert "model_final.pth: a checkpoint of another network (3 anchors a cell there, 1 by the config's" in message
    assert (out / "config.yaml").read_bytes() == before


def test_three_folds_of_the_sample_and_their_pooled_score(maskseg, repository, tmp_path):
    for source in sorted((repository / "datasets" / "sample" / "train").iterdir())[::4]:
        shutil.copytree(source, tmp_path / "source" / source.name)
    modality = repository / "datasets" / "sample" / "modality.csv"
    data, out = tmp_path / "data", tmp_path / "run"
    for words in (
        ("convert", "folders", tmp_path / "source", "-o", data, "--modality", modality),
        ("split", data, "--folds", 3),
    ):
        status, _, said = maskseg(*words)
        assert status == 0, said
    folds = {image_id: row["part"] for image_id, row in read_split(data / "split.csv").items()}
    assert sorted(set(folds.values())) == ["fold1", "fold2", "fold3"]

    quick = [text for pair in {**QUICK, "DATALOADER.NUM_WORKERS": "0", "SOLVER.MAX_ITER": "1"}.items() for text in pair]
    words = ["--config-file", "nuclei_R_18_FPN", "--num-gpus", "0", *quick]
    words += ["DATASETS.TRAIN", f"('{data}',)", "OUTPUT_DIR", out]
    status, said, errors = maskseg("train", "--folds", *words)
    assert status == 0, errors
    scores = json.loads((out / "folds.json").read_text())
    assert scores.keys() == {"fold1", "fold2", "fold3", "pooled"}
    assert scores["pooled"]["images"] == len(folds) == 6
    assert "all folds, each image by the training that did not see it" in said
    for fold in ("fold1", "fold2", "fold3"):
        assert (out / fold / "model_final.pth").is_file()
        # Each writes to its own log, and to that alone.
        assert (out / fold / "log.txt").read_text().count("Starting training from iteration 0") == 1
    assert said.count("Starting training from iteration 0") == 3

    # Once more all of it is there already.
    written = {path: path.stat().st_mtime_ns for path in out.glob("fold*/model_final.pth")}
    status, said, errors = maskseg("train", "--folds", "--resume", *words)
    assert status == 0, errors
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert json.loads((out / "folds.json").read_text()) == scores


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config-file", "nowhere"], "nowhere: no such config file"),
        (["SOLVER.BASE_RATE", "1"], "SOLVER.BASE_RATE"),
        (["--eval-only", "OUTPUT_DIR", "nowhere"], "nowhere: no such model"),
        (["--eval-only", "MODEL.WEIGHTS", "nowhere.pth"], "nowhere.pth: no such model"),
        (["--num-gpus", "2"], "no GPU is usable here"),
        (["--from", "nuclei"], "--from MODEL and --data DIR belong together"),
        (["--from", "nuclei", "--data", "nowhere"], "nowhere"),
        (["--from", "nuclei", "--data", "d", "--config-file", "c.yaml"], "brings its own config"),
    ],
)
def test_mistakes_are_one_line(monkeypatch, capsys, words, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert message in refused(monkeypatch, capsys, *words)


def test_a_rate_of_channels_is_refused_for_a_network_without(maskseg):
    status, _, errors = maskseg("train", "--config-file", "nuclei_R_18_FPN", "--channel-rate", 0.5, "--num-gpus", 0)
    assert status == 2
    assert errors.splitlines()[-1] == (
        "maskseg: error: --channel-rate 0.5: the network GeneralizedRCNN is no U-Net; leave it out"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--config-file", "ultrasound_unet", "--image-size", 64], "images have the INPUT.SIZE"),
        (
            ["--config-file", "nuclei_unet", "--class-names", "a,b"],
            "--class-names and --merge-classes a,b: the network",
        ),
        (["--config-file", "protein_small", "--merge-classes", "x=a,b"], "tells no classes apart"),
        (["--eval-only", "--folds"], "--eval-only scores a model that there is"),
        (["--eval-only", "--predict", "images"], "--eval-only scores a model that there is"),
        (["--eval-only", "--resume"], "--eval-only scores a model that there is"),
    ],
)
def test_options_that_would_be_ignored_are_refused(maskseg, arguments, said):
    status, _, errors = maskseg("train", *arguments, "--num-gpus", 0)
    assert status == 2
    assert said in errors.splitlines()[-1]
