"""Packages pass the test of bioimage.io's own program, and are honest about what they need."""

import zipfile

import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model

from maskseg import load_model
from maskseg.inference.bioimageio import write_package
from maskseg.models.checkpoint import Checkpointer
from maskseg.models.config import load_config


def passed(path):
    core = pytest.importorskip("bioimageio.core", reason="it is not installed: pip install bioimageio.core")
    summary = core.test_model(path, runtime_env="currently-active")
    if "package_file_descr_serializer" in summary.format():
        pytest.skip("this bioimageio.spec does not work with the installed pydantic; it does with pydantic 2.12")
    assert summary.status == "passed", summary.format()
    with zipfile.ZipFile(path) as archive:
        return yaml.safe_load(archive.read("bioimageio.yaml")), archive.read("README.md").decode()


@pytest.mark.slow
def test_a_unet_passes_and_gives_the_probabilities_of_maskseg(tmp_path):
    cfg = load_config("nuclei_unet", ["MODEL.DEVICE", "cpu", "MODEL.UNET.CHANNEL_RATE", "0.1"])
    torch.manual_seed(0)
    model = build_model(cfg)
    Checkpointer(model, str(tmp_path)).save("model_final", iteration=1)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    write_package(str(tmp_path), tmp_path / "unet.zip")
    about, text = passed(tmp_path / "unet.zip")
    assert list(about["weights"]) == ["torchscript"] and "U-Net" in about["name"] and "network alone" in text
    with zipfile.ZipFile(tmp_path / "unet.zip") as archive, archive.open("test_output.npy") as file:
        theirs = np.load(file)
    with zipfile.ZipFile(tmp_path / "unet.zip") as archive, archive.open("test_input.npy") as file:
        image = np.load(file)[0].transpose(1, 2, 0).astype(np.uint8)
    predictor = load_model(tmp_path, ["MODEL.DEVICE", "cpu"])
    (ours,) = predictor.on_canvases([image])
    np.testing.assert_allclose(theirs[0, 0], ours, atol=1e-5)


@pytest.mark.slow
def test_the_bundled_mask_rcnn_passes_and_says_that_it_needs_maskseg(tmp_path):
    write_package("nuclei", tmp_path / "nuclei.zip")
    about, text = passed(tmp_path / "nuclei.zip")
    assert list(about["weights"]) == ["pytorch_state_dict"]
    assert "needs maskseg" in text and "without scores" in text
    with zipfile.ZipFile(tmp_path / "nuclei.zip") as archive, archive.open("test_output.npy") as file:
        labels = np.load(file)
    # Four times four disks.
    assert labels.shape == (1, 1, 256, 256) and labels.max() == 16
