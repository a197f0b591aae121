"""What docs/examples/ shows, tried as another package would: nothing of maskseg is touched."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

# Runs a command, and `predict` with something in place of a network.
RUN = """
import sys
from pathlib import Path
from maskseg.imaging.finding import find_images
from maskseg.cli.main import main
from maskseg.inference.run import predict_files
from tests.inference.test_run import Squares

if sys.argv[1] == "stub":
    assert predict_files(Squares(), find_images([sys.argv[2]]), Path(sys.argv[3]), ["toy", "labels"]) == []
else:
    main()
"""


@pytest.fixture
def run(repository, tmp_path):
    """Run maskseg where a package with the toy format is installed."""
    site = tmp_path / "site"
    (site / "toy_format-1.0.dist-info").mkdir(parents=True)
    (site / "toy_format.py").write_bytes((repository / "docs" / "examples" / "toy_format.py").read_bytes())
    (site / "toy_format-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-format\nVersion: 1\n")
    (site / "toy_format-1.0.dist-info" / "entry_points.txt").write_text(
        "[maskseg.formats]\ntoy = toy_format:FORMAT\nbroken = nowhere:FORMAT\n"
    )

    def call(*arguments, status=0):
        code = f"import sys; sys.path[:0] = [{str(site)!r}, {str(repository)!r}]\n{RUN}"
        command = [sys.executable, "-W", "ignore::FutureWarning", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == status, done.stderr
        return done.stdout + done.stderr

    return call


def test_the_toy_format_is_thirty_lines(repository):
    assert len((repository / "docs" / "examples" / "toy_format.py").read_text().splitlines()) <= 30


def test_the_toy_format_is_in_every_command(run, tmp_path):
    assert "toy (toy/STEM.toy: run lengths as text)" in " ".join(run("predict", "--help").split())
    assert "toy (run lengths as text)" in " ".join(run("export", "--help").split())
    assert "toy" in run("convert", "--help")
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"image_{number}.png"), np.full((20, 30, 3), number * 3, np.uint8))
    run("stub", tmp_path / "images", tmp_path / "out")
    # Written by `predict`, converted, exported, and each the same nuclei as the label images.
    run("convert", "toy", tmp_path / "out" / "toy", "-o", tmp_path / "set", "--images", tmp_path / "images")
    run("export", tmp_path / "set", "-o", tmp_path / "exported", "--to", "toy")
    for found in (tmp_path / "out" / "toy", tmp_path / "set", tmp_path / "exported"):
        text = run("evaluate", "--truth", tmp_path / "out" / "labels", "--pred", found)
        (line,) = [line for line in text.splitlines() if line.startswith("all ")]
        assert float(line.split()[1]) == 1


def test_a_format_that_cannot_be_loaded_is_named_and_costs_nothing_else(run):
    text = run("predict", "--help")
    assert "the format broken of nowhere:FORMAT is left out" in text
    assert "labels/STEM.tif" in text
