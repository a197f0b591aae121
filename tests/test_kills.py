"""A command that is killed at any moment and begun again ends as one that was not; `python -m tests.kills` for more."""

import os
import signal
import subprocess

import pytest

from tests import kills

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot"),
]
# Ray and training take seconds for each run: `python -m tests.kills`, tests/inference/test_ray_executor.py and
# tests/training/test_interrupt.py have them.
QUICK = ("predict", "tiled", "convert", "check", "pack", "serve")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    kills.write_source(folder)
    return folder


@pytest.mark.parametrize("name", QUICK)
def test_it_ends_with_the_bytes_of_an_unbroken_run_and_leaves_nothing_behind(source, tmp_path, name):
    figures = kills.killed(name, 4, source, tmp_path)
    assert figures.kills >= 4
    assert figures.ends >= 2


def test_a_program_that_is_left_over_is_found(source, tmp_path):
    """And one of somebody else is not: a test beside this one has a Ray of its own."""

    def job(source, out):
        out.write_text(str(subprocess.Popen(["sleep", "60"], start_new_session=True).pid))

    other = subprocess.Popen(["sleep", "60"])
    kills.ended(kills.begun(job, source, tmp_path / "left"), tmp_path / "left")
    left = int((tmp_path / "left").read_text())
    try:
        assert kills.agents() == [f"{left} sleep 60 "]
    finally:
        os.kill(left, signal.SIGKILL)
        other.kill()
        other.wait()
    assert kills.agents() == []
