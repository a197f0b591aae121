"""Each script of benchmarks/ says what it does, and `make bench` runs it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = sorted(path.name for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text())


def test_make_bench_runs_every_script_but_those_that_it_names():
    makefile = (ROOT / "Makefile").read_text()
    words = re.search(r"^BENCH := ((?:.*\\\n)*.*)", makefile, re.MULTILINE).group(1)
    left_out = re.findall(r"(\w+\.py)", makefile[: makefile.index("BENCH :=")].rpartition("Left out is")[2])
    assert set(re.findall(r"(\w+\.py)", words)) | {*left_out, "machine.py"} == set(SCRIPTS)
    assert {"generalise.py", "soak.py"} <= {*left_out}


@pytest.mark.slow
@pytest.mark.parametrize("script", [name for name in SCRIPTS if name != "machine.py"])
def test_a_script_explains_itself(script):
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert f"python benchmarks/{script}" in done.stdout
