"""Training in two CPU processes, as torchrun starts them."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from maskseg.core.errors import InputError
from maskseg.models.config import load_config
from maskseg.training import distributed
from maskseg.training.trainer import Trainer

pytestmark = pytest.mark.slow

# tools/train_net.py, whose first process also writes the gradients that its last step left.
TRAIN_NET = """
import runpy, sys, torch, maskseg
from detectron2.utils import comm
from maskseg.training.trainer import Trainer

out, *sys.argv = sys.argv[1:]
train = Trainer.train

def kept(trainer):
    train(trainer)
    if comm.is_main_process():
        torch.save({"world": comm.get_world_size(), "local": comm.get_local_size(), "gradients":
            {key: value.grad for key, value in trainer.plain_model.named_parameters() if value.grad is not None}}, out)

Trainer.train = kept
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def settings(overrides, write_dataset, nuclei, tmp_path):
    """Two images with the same nuclei in other grey values, and heads that sample nothing at random."""
    labels = nuclei(0)
    folder = write_dataset(tmp_path / "two", {"a": labels, "b": np.where(labels > 0, labels + 30, 0)})
    return overrides(
        DATASETS__TRAIN=(str(folder),),
        DATASETS__TEST="()",
        OUTPUT_DIR=tmp_path / "run",
        SOLVER__MAX_ITER=1,
        INPUT__NORMALIZE="off",
        INPUT__AUG__CONTRAST=0.0,
        INPUT__AUG__BRIGHTNESS=0.0,
        INPUT__AUG__GAMMA=0.0,
        INPUT__AUG__ROTATE=0.0,
        INPUT__AUG__FLIP=False,
        INPUT__AUG__QUARTER_TURNS=False,
        INPUT__AUG__SCALE=[1.0, 1.0],
        MODEL__RPN__BATCH_SIZE_PER_IMAGE=100_000,
        MODEL__ROI_HEADS__BATCH_SIZE_PER_IMAGE=10_000,
        # The nuclei themselves are the positives, so that both images weigh the same.
        MODEL__ROI_HEADS__IOU_THRESHOLDS=[0.999],
        MODEL__RPN__POST_NMS_TOPK_TRAIN=4,
        SOLVER__CLIP_GRADIENTS__ENABLED=False,
    )


def test_train_net_under_torchrun_has_the_gradient_of_one_process_with_twice_the_batch(settings, repository, tmp_path):
    script = tmp_path / "step.py"
    script.write_text(TRAIN_NET)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script]
    words = [repository / "tools" / "train_net.py", "--config-file", "nuclei_R_18_FPN", "--num-gpus", "0", *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "two.pt"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "model_final.pth").is_file()
    assert len((tmp_path / "run" / "metrics.json").read_text().splitlines()) == 1, "one process writes"
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    assert (found["world"], found["local"]) == (2, 2)

    made = Trainer(load_config("nuclei_R_18_FPN", [*settings, "OUTPUT_DIR", str(tmp_path / "one")]))
    made.resume_or_load(False)
    made.train()
    expected = {key: value.grad for key, value in made.plain_model.named_parameters() if value.grad is not None}
    assert found["gradients"].keys() == expected.keys()
    for key, value in expected.items():
        tolerance = 1e-3 * float(value.abs().max()) + 1e-9
        torch.testing.assert_close(
            found["gradients"][key], value, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )

    # Each image alone has another gradient, so the processes did have to agree.
    alone = Trainer(
        load_config("nuclei_R_18_FPN", [*settings, "OUTPUT_DIR", str(tmp_path / "alone"), "SOLVER.IMS_PER_BATCH", "1"])
    )
    alone.resume_or_load(False)
    alone.train()
    key = "proposal_generator.rpn_head.conv.weight"
    single = dict(alone.plain_model.named_parameters())[key].grad
    assert not torch.allclose(single, expected[key], rtol=0.05, atol=1e-3 * float(expected[key].abs().max()))


def failing(message: str) -> None:
    raise InputError(message)


def test_an_error_of_a_process_that_was_started_here_is_one_line(monkeypatch):
    monkeypatch.setattr(
        distributed,
        "launch",
        lambda function, num_gpus, dist_url, args: torch.multiprocessing.spawn(spawned, (function, args), nprocs=1),
    )
    with pytest.raises(InputError, match=r"^image7\.png: cannot be read; get it again$"):
        distributed.run(failing, 2, ("image7.png: cannot be read; get it again",))


def spawned(_: int, function, args) -> None:
    function(*args)
