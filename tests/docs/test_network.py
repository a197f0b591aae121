"""The network of docs/examples/, trained and used from a package of its own: nothing of maskseg is touched."""

import os
import subprocess
import sys

import pytest
import torch


@pytest.fixture
def run(repository, tmp_path):
    """Run maskseg where a package with the toy network is installed."""
    site = tmp_path / "site"
    (site / "toy_network-1.0.dist-info").mkdir(parents=True)
    (site / "toy_network.py").write_bytes((repository / "docs" / "examples" / "toy_network.py").read_bytes())
    (site / "toy_network-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: toy-network\nVersion: 1\n"
    )
    (site / "toy_network-1.0.dist-info" / "entry_points.txt").write_text("[maskseg.tasks]\ntoy = toy_network\n")

    def call(*commands):
        """Commands one after another, in one process."""
        given = [["maskseg", *map(str, words)] for words in commands]
        code = (
            f"import sys; sys.path[:0] = [{str(site)!r}, {str(repository)!r}]\n"
            f"from maskseg.cli.main import main\nfor sys.argv in {given!r}:\n"
            "    try:\n        main()\n    except SystemExit as end:\n        assert not end.code, sys.argv\n"
        )
        command = [sys.executable, "-c", code]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    return call


@pytest.mark.slow
def test_the_toy_network_is_trained_and_predicts(run, dataset, overrides, tmp_path):
    out = tmp_path / "run"
    sets = {"DATASETS__TRAIN": f"('{dataset}:train',)", "DATASETS__TEST": f"('{dataset}:dev',)"}
    keys = overrides(
        MODEL__BACKBONE__NAME="build_toy_fpn_backbone", SOLVER__MAX_ITER=2, TEST__EVAL_PERIOD=0, OUTPUT_DIR=out, **sets
    )
    done = run(
        ("train", "--config-file", "nuclei_R_18_FPN", "--num-gpus", 0, *keys),
        ("predict", dataset / "images" / "image0.png", "-o", tmp_path / "out", "--model", out),
    )
    assert done.returncode == 0, done.stderr
    # Its own stages, and none of a ResNet's, are what was trained.
    weights = torch.load(out / "model_final.pth", weights_only=True)["model"]
    stages = {
        name.split(".")[2] + "." + name.split(".")[3] for name in weights if name.startswith("backbone.bottom_up.")
    }
    assert stages == {"stages.res2", "stages.res3", "stages.res4"}
    assert (tmp_path / "out" / "labels" / "image0.tif").is_file()
