"""What a program frees it keeps for the next layer."""

import subprocess
import sys
from types import ModuleType

import pytest

PROGRAM = """
import resource, sys
import torch
from maskseg.inference.memory import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(3):
    torch.ones(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(word):
    done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone is told")
def test_ten_tensors_of_100_mb_ask_the_system_for_less_memory():
    asked = pages("give back")
    if asked < 100_000:
        pytest.skip("this C library keeps it anyway")
    # Aligned blocks do not always fit where one was.
    assert pages("keep") < 0.8 * asked


def test_another_c_library_is_left_alone(monkeypatch):
    from maskseg.inference import memory

    class Other:
        pass

    for found in (lambda name: Other(), lambda name: None):
        monkeypatch.setattr(memory.ctypes, "CDLL", found)
        memory.keep_freed_memory()

    def refuse(name):
        raise TypeError("no name")

    monkeypatch.setattr(memory.ctypes, "CDLL", refuse)
    memory.keep_freed_memory()


class Called(Exception):
    pass


def test_predict_and_the_processes_of_a_cluster_keep_it(monkeypatch, repository, tmp_path):
    from maskseg.cli import predict
    from maskseg.inference import memory, ray_executor

    def called():
        raise Called

    monkeypatch.setattr(memory, "keep_freed_memory", called)
    monkeypatch.setattr(ray_executor, "keep_freed_memory", called)
    with pytest.raises(Called):
        predict.predict([str(repository / "datasets/sample/heldout")], tmp_path / "out")
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    with pytest.raises(Called):
        ray_executor._Actor(None, None, "", "").ready()
