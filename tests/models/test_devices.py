"""Which device a network runs on."""

from types import SimpleNamespace

import pytest
import torch
import typer
from typer.testing import CliRunner

from maskseg.cli.predict import predict
from maskseg.core.errors import InputError
from maskseg.inference import api
from maskseg.models.config import load_config
from maskseg.models.devices import choose_device, describe_device, on_device


@pytest.fixture
def machine(monkeypatch):
    """Pretend that a machine has these GPUs."""

    def have(*gpus: str) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in gpus)

    return have


@pytest.mark.parametrize(("gpus", "device"), [((), "cpu"), (("cuda",), "cuda"), (("mps",), "cpu")])
def test_auto_takes_a_cuda_gpu_where_there_is_one(machine, gpus, device):
    machine(*gpus)
    assert choose_device() == device
    assert choose_device("cpu") == "cpu"
    for gpu in gpus:
        assert choose_device(gpu) == gpu


@pytest.mark.parametrize("wanted", ["cuda", "mps"])
def test_a_device_that_is_not_there_is_refused_in_one_line_with_the_remedy(machine, wanted):
    machine()
    with pytest.raises(InputError, match=f"^--device {wanted}: .*use --device auto or cpu$") as caught:
        choose_device(wanted)
    assert "\n" not in str(caught.value)


def test_each_device_is_described_in_one_line(machine, monkeypatch):
    machine("cuda")
    about = SimpleNamespace(name="NVIDIA H100", total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _device: about)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert describe_device("cuda") == "device: cuda, NVIDIA H100, 80 GiB"
    assert describe_device("cpu") == "device: cpu, 4 threads"
    machine("mps")
    assert describe_device("mps") == "device: mps"
    # On a Mac it is said that there is more.
    assert describe_device("cpu") == "device: cpu, 4 threads; --device mps would use the GPU"


def test_the_config_of_a_model_stays_as_it_was(machine):
    machine()
    cfg = load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cuda"])
    cfg.freeze()
    assert on_device(cfg).MODEL.DEVICE == "cpu"
    assert cfg.MODEL.DEVICE == "cuda"


def test_predict_says_the_device_or_why_it_is_not_to_be_had(machine, repository, tmp_path, monkeypatch):
    machine()
    image = str(next((repository / "datasets/sample/heldout").glob("*/images/*.png")))

    def stop(cfg, _weights):
        raise InputError(f"built on {cfg.MODEL.DEVICE}")

    monkeypatch.setattr(api, "build_predictor", stop)
    app = typer.Typer()
    app.command()(predict)
    said = CliRunner().invoke(app, [image, "-o", str(tmp_path)])
    assert said.stdout.startswith("device: cpu, ") and str(said.exception) == "built on cpu"
    for more in ["--device", "mps"], ["--device", "cpu", "--cluster", "ray"]:
        refused = CliRunner().invoke(app, [image, "-o", str(tmp_path), *more])
        assert isinstance(refused.exception, InputError) and " ".join(more[:2]) in str(refused.exception)
    assert not list(tmp_path.iterdir())
