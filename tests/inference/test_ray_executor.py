"""A run shared among the processes of a local Ray is the local run, also where some of them are killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.imaging.finding import find_images
from maskseg.inference import ray_executor as cluster
from maskseg.inference.ray_executor import _Actor, outcomes_on_ray
from maskseg.inference.run import predict_files
from tests.fixtures.mixture import BAD, write_mixture
from tests.inference.test_run import QUICK, Outlines, Stub, contents, small

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray, the extra `cluster`, is not installed")


class Cells(Stub):
    """Finds stripes."""

    model = torch.nn.Identity()

    def segment(self, image, *_):
        return CropMasks.from_labels((image[..., 0] // 7 + 1).astype(int))


class Slow(Cells):
    """Takes its time, so that a kill finds it at work."""

    def segment(self, image, *_):
        time.sleep(0.5)
        return super().segment(image)


class Deadly(Cells):
    """Does not survive an image the first times that it is given it; the file `log` has a line for each image."""

    def __init__(self, folder, end, image, times):
        self.folder, self.end, self.image, self.times = folder, end, image, times

    def segment(self, image, *_):
        with (self.folder / "log").open("a") as file:
            file.write(f"{os.getpid()} {image[0, 0, 0]}\n")
        if image[0, 0, 0] == self.image and given(self.folder)[self.image] <= self.times:
            self.end()
        return super().segment(image)


def given(folder):
    """How often each image was given to the network."""
    return np.bincount([int(line.split()[1]) for line in (folder / "log").read_text().splitlines()], minlength=32)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def two_workers():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        # Its processes unpickle the networks of these tests, whatever a test before has made of sys.path.
        patch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]), prepend=os.pathsep)
        patch.setattr(cluster, "available_cores", lambda: 2)
        patch.setattr(cluster, "_MEMORY", 1 << 20)
        patch.setattr(cluster, "_STORE", 100 << 20)
        with cluster._connected(ray):
            yield


def write_images(folder, count):
    folder.mkdir()
    for number in range(count):
        gradient = np.broadcast_to(np.arange(40, dtype=np.uint8), (30, 40)).copy()
        gradient[0, 0] = number
        cv2.imwrite(str(folder / f"image_{number:02}.png"), gradient)


def test_of_two_processes_one_is_killed_and_the_results_are_those_of_a_local_run(two_workers, tmp_path):
    write_images(tmp_path / "images", 32)
    whole = (tmp_path / "images" / "image_20.png").read_bytes()
    (tmp_path / "images" / "image_20.png").write_bytes(b"no image")
    files, out = find_images([tmp_path / "images"]), tmp_path / "out"
    predictor = Deadly(tmp_path, kill, image=7, times=1)
    ((name, reason),) = predict_files(predictor, files, out, QUICK, cluster=True)
    assert (name, "image_20.png: " in reason) == ("image_20", True)
    processes = {line.split()[0] for line in (tmp_path / "log").read_text().splitlines()}
    assert len(processes) in (2, 3), "two, and one for that which was killed if it came in time"
    times = given(tmp_path)
    assert times[20] == 0
    assert np.delete(times, 20).min() == 1
    # Of the four that go with it those that had no part yet.
    assert times.sum() <= 31 + 4
    # What a cluster leaves a local run goes on with.
    (tmp_path / "images" / "image_20.png").write_bytes(whole)
    assert predict_files(predictor, files, out, QUICK) == []
    assert given(tmp_path).sum() == times.sum() + 1
    predict_files(Cells(), files, tmp_path / "local", QUICK)
    assert contents(out) == contents(tmp_path / "local")


def test_of_many_files_with_bad_ones_of_every_kind_the_good_ones_are_done_and_the_others_named(two_workers, tmp_path):
    bad = write_mixture(tmp_path / "images", small, count=240, bad=len(BAD))
    files = find_images([tmp_path / "images"])
    formats = ["rle", "table"]
    failed = predict_files(Outlines(), files, tmp_path / "out", formats, cluster=True)
    assert {image_id for image_id, _ in failed} == bad
    local = predict_files(Outlines(), files, tmp_path / "local", formats)
    assert sorted(failed) == sorted(local)
    for name in ("submission.csv", "nuclei.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_an_image_that_ends_two_processes_is_left_out_and_the_others_are_done(two_workers, tmp_path):
    """An exception that nobody handles leaves behind what a death does."""
    write_images(tmp_path / "images", 8)
    files = find_images([tmp_path / "images"])
    predictor = Deadly(tmp_path, sys.exit, image=5, times=9)
    ((name, reason),) = predict_files(predictor, files, tmp_path / "out", ["labels"], cluster=True)
    assert name == "image_05"
    assert "image_05.png: ended two processes" in reason
    assert given(tmp_path)[5] == 2
    assert len(list((tmp_path / "out" / "labels").iterdir())) == 7


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there it is known what a process was given")
def test_agents_end_with_the_process_that_is_killed_while_it_starts_them(tmp_path):
    """Ray's own go on for a minute, trying to tell a server that has ended, too; and what they start meanwhile.

    Some lose the variable by which they are known, and the first ones can end before they are looked for.
    """
    folder = tmp_path / "session_1"
    (folder / "logs").mkdir(parents=True)
    agents = (
        f"exec 2> {folder}/logs/agent.err; timeout 2 tail -f /dev/null {folder}/logs/agent.err & "
        "for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & sleep 0.01; done; "
        "env -u MASKSEG_RAY bash -c 'exec -a ray::Agent sleep 60' & wait"
    )
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys, time\nfrom maskseg.inference.ray_executor import _ended_with_this_process\n"
        "with _ended_with_this_process():\n"
        f'    agents = ["bash", "-c", """{agents}"""]\n'
        "    agent = subprocess.Popen(agents, start_new_session=True, stdout=subprocess.DEVNULL)\n"
        "    time.sleep(2.5)\n    print(agent.pid, flush=True)\n    sys.stdin.read()\n"
    )
    driver = subprocess.Popen(
        [sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    session = int(driver.stdout.readline())
    assert len(sessions_of(session)) == 11
    driver.kill()
    driver.communicate()
    end = time.monotonic() + 20
    while sessions_of(session) and time.monotonic() < end:
        time.sleep(0.05)
    assert not sessions_of(session)


def test_what_is_started_later_is_not_ended(monkeypatch):
    monkeypatch.setattr(cluster, "_connect", lambda *_: None)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with cluster._connected(SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: None)):
        other = subprocess.Popen(["sleep", "60"])
    assert other.poll() is None
    other.kill()
    other.wait()
    assert cluster._MARK not in os.environ


def sessions_of(session):
    """Ids of the processes of a session that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if fields[0] != "Z" and int(fields[3]) == session:
                found.append(int(path.parent.name))
    return found


def test_a_machine_that_does_not_see_the_folders_is_named(tmp_path):
    seen = SimpleNamespace(stamp=tmp_path / "none", out=tmp_path)
    ended = _Actor(seen, None, str(tmp_path), "settings").ready()
    assert "share the folders" in ended.reason


def test_actors_have_the_priority_of_the_command(monkeypatch):
    """Ray's own come after all other programs, and hardly run at all on a busy machine."""
    monkeypatch.delenv("RAY_worker_niceness", raising=False)
    monkeypatch.setattr(cluster, "available_cores", lambda: 1)
    with cluster._connected(ray):
        assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)


def test_without_ray_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'maskseg\[cluster\]'"):
        next(outcomes_on_ray(None, Stub(), []))


def test_an_address_where_no_ray_is_is_one_line_and_not_minutes(tmp_path, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(InputError, match=f"no Ray at {address}.*RAY_ADDRESS"), cluster._connected(ray):
        pass


@pytest.mark.skipif(not hasattr(ray.exceptions, "AuthenticationError"), reason="this Ray knows no tokens")
def test_a_ray_that_asks_for_a_token_says_so(monkeypatch):
    def refuse(**_):
        raise ConnectionError("Failed to connect") from ray.exceptions.AuthenticationError("no token")

    with socket.create_server(("127.0.0.1", 0)) as there:
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{there.getsockname()[1]}")
        monkeypatch.setattr("ray.is_initialized", lambda: False)
        monkeypatch.setattr("ray.init", refuse)
        with pytest.raises(InputError, match="RAY_AUTH_MODE=token") as caught, cluster._connected(ray):
            pass
    assert "\n" not in str(caught.value)
