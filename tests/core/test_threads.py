"""How many threads there are, and how they wait."""

import os
import subprocess
import sys

import pytest

from maskseg.core import threads


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "what nobody knows"}, None),
        ({}, None),
    ],
)
def test_a_container_has_the_cores_that_it_is_given(tmp_path, monkeypatch, files, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(threads, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert threads.available_cores() == (cores or 8)
    monkeypatch.setattr(os, "environ", {})
    threads.wait_without_work()
    assert os.environ.get("OMP_NUM_THREADS") == (str(cores) if cores else None)


@pytest.mark.parametrize("own", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}, {"OMP_NUM_THREADS": "5"}])
def test_what_the_user_has_set_stays(tmp_path, monkeypatch, own):
    (tmp_path / "cpu.max").write_text("200000 100000")
    monkeypatch.setattr(threads, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "environ", dict(own))
    threads.wait_without_work()
    assert own.items() <= os.environ.items()
    assert ("GOMP_SPINCOUNT" in os.environ) == ("OMP_WAIT_POLICY" not in own)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's threads on Linux only")
def test_threads_of_torch_that_wait_sleep_soon():
    environment = {
        name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    }
    done = subprocess.run(
        [sys.executable, "-c", "import maskseg, torch"],
        env={**environment, "OMP_DISPLAY_ENV": "VERBOSE"},
        capture_output=True,
        text=True,
        check=True,
    )
    if "GOMP_SPINCOUNT" not in done.stderr:
        pytest.skip("this torch has other threads than GNU's")
    assert "GOMP_SPINCOUNT = '10000'" in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="torch brings GNU's threads on Linux only")
@pytest.mark.parametrize(
    ("first", "environment", "left"),
    [
        ("maskseg", {}, True),
        ("torch", {}, False),
        ("torch", {"OMP_WAIT_POLICY": "passive"}, True),
        ("maskseg", {"OMP_WAIT_POLICY": "ACTIVE"}, False),
        ("torch", {"GOMP_SPINCOUNT": "0"}, True),
        ("maskseg", {"GOMP_SPINCOUNT": "infinite"}, False),
    ],
)
def test_it_is_known_whether_torch_leaves_the_cores_to_others(first, environment, left):
    script = f"import {first}, maskseg; print(maskseg.core.threads.others_get_the_cores())"
    kept = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    said = subprocess.run(
        [sys.executable, "-c", script], env=kept | environment, capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == str(left)
