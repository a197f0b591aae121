"""What docs/examples/ shows, tried as another package would: nothing of maskseg is touched."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

# Runs commands one after another in one process, and `predict` with something in place of a network; what each said.
RUN = """
import contextlib, io, json, sys
from pathlib import Path
from maskseg.imaging.finding import find_images
from maskseg.cli.main import main
from maskseg.inference.run import predict_files
from tests.inference.test_run import Squares

said = []
for words in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        if words[0] == "stub":
            assert predict_files(Squares(), find_images([words[1]]), Path(words[2]), ["toy", "labels"]) == []
        else:
            sys.argv = ["maskseg", *words]
            try:
                main()
            except SystemExit as end:
                assert not end.code, (words, out.getvalue())
    said.append(out.getvalue())
print(json.dumps(said))
"""


@pytest.fixture
def run(repository, tmp_path):
    """Run commands of maskseg where a package with the toy format is installed."""
    site = tmp_path / "site"
    (site / "toy_format-1.0.dist-info").mkdir(parents=True)
    (site / "toy_format.py").write_bytes((repository / "docs" / "examples" / "toy_format.py").read_bytes())
    (site / "toy_format-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-format\nVersion: 1\n")
    (site / "toy_format-1.0.dist-info" / "entry_points.txt").write_text(
        "[maskseg.formats]\ntoy = toy_format:FORMAT\nbroken = nowhere:FORMAT\n"
    )

    def call(*commands):
        code = f"import sys; sys.path[:0] = [{str(site)!r}, {str(repository)!r}]\n{RUN}"
        given = json.dumps([[str(word) for word in words] for words in commands])
        command = [sys.executable, "-W", "ignore::FutureWarning", "-c", code]
        done = subprocess.run(command, input=given, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [*json.loads(done.stdout), done.stderr]

    return call


def test_the_toy_format_is_thirty_lines(repository):
    assert len((repository / "docs" / "examples" / "toy_format.py").read_text().splitlines()) <= 30


@pytest.mark.slow
def test_the_toy_format_is_in_every_command_and_one_that_cannot_be_loaded_is_named(run, tmp_path):
    (tmp_path / "images").mkdir()
    for number in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"image_{number}.png"), np.full((20, 30, 3), number * 3, np.uint8))
    out, data, exported = (tmp_path / name for name in ("out", "set", "exported"))
    predict, export, convert, *_, first, second, third, others = run(
        ("predict", "--help"),
        ("export", "--help"),
        ("convert", "--help"),
        # Written by `predict`, converted, exported, and each the same nuclei as the label images.
        ("stub", tmp_path / "images", out),
        ("convert", "toy", out / "toy", "-o", data, "--images", tmp_path / "images", "--workers", 1),
        ("export", data, "-o", exported, "--to", "toy", "--workers", 1),
        *(("evaluate", "--truth", out / "labels", "--pred", found) for found in (out / "toy", data, exported)),
    )
    assert "toy (toy/STEM.toy: run lengths as text)" in " ".join(predict.split())
    assert "toy (run lengths as text)" in " ".join(export.split())
    assert "toy" in convert
    for text in (first, second, third):
        (line,) = [line for line in text.splitlines() if line.startswith("all ")]
        assert float(line.split()[1]) == 1
    assert "the format broken of nowhere:FORMAT is left out" in predict + others
    assert "labels/STEM.tif" in " ".join(predict.split())
