"""The queue: real work in real children, cancelled, failing, and gone with the server."""

import io
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.serve import worker
from maskseg.serve.child import Child
from maskseg.serve.events import Events
from maskseg.serve.jobs import Jobs
from maskseg.serve.retrain import HELD, TRAIN, make_data_set
from maskseg.serve.workspace import Workspace


@pytest.mark.slow
def test_jobs_wait_run_are_cancelled_and_leave_out_what_is_broken(serve, sample_images, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sample_images[:2]):
        shutil.copy(path, images / f"{number}.png")
    (images / "broken.png").write_bytes(sample_images[0].read_bytes()[:500])
    server = serve(images)
    rows = {row["name"]: row["key"] for row in server.get("/api/state")["images"]}
    first = server.ask("POST", "/api/predictions", {"images": list(rows.values())})[1]
    second = server.ask("POST", "/api/predictions", {"images": [rows["0"]]})[1]
    third = server.ask("POST", "/api/predictions", {"images": [rows["1"]]})[1]
    assert server.ask("DELETE", f"/api/jobs/{second['id']}")[1]["state"] == "cancelled"
    done = server.wait_for(first)
    assert done["state"] == "done", done
    assert set(done["result"]["images"]) == {rows["0"], rows["1"]}
    (reason,) = done["result"]["left_out"].values()
    assert "broken.png" in reason
    # Cancelled while it runs, or a moment before.
    assert server.ask("DELETE", f"/api/jobs/{third['id']}")[0] == 200
    assert server.wait_for(third)["state"] in ("cancelled", "done")
    assert server.get(f"/api/jobs/{second['id']}")["state"] == "cancelled"
    # The queue goes on.
    assert server.wait_for(server.ask("POST", "/api/predictions", {"images": [rows["0"]]})[1])["state"] == "done"
    assert server.get(f"/api/images/{rows['0']}")["count"] > 0
    failed = server.wait_for(server.ask("POST", "/api/trainings", {})[1])
    assert failed["state"] == "failed" and "nothing to learn from yet" in failed["words"]
    assert not list(server.folder.glob("trainings/*")) and not list(server.folder.glob(".predict-*"))


def test_what_one_image_meets_is_no_matter_of_the_others(sample_images, tmp_path, monkeypatch):
    """Whatever it is: a fault that nobody has foreseen, too."""

    class Faulty:
        cfg = SimpleNamespace(INPUT=SimpleNamespace(NORMALIZE="auto"))
        class_names = ()

        def at_pixel_size(self, mpp, name):
            self.name = name
            return self

        def segment(self, image):
            if self.name.endswith("1.png"):
                raise RuntimeError("no kernel image")
            return CropMasks.empty(image.shape[:2])

    monkeypatch.setattr(worker, "_model", lambda task: Faulty())
    images = []
    for number, path in enumerate(sample_images[:3]):
        shutil.copy(path, tmp_path / f"{number}.png")
        plain = {"path": str(tmp_path / f"{number}.png"), "member": None, "channel": None, "planes": {}}
        images.append({"key": str(number), "out": str(tmp_path / f"{number}.npz"), **plain})
    said = []
    worker.predict({"model": "nuclei", "images": images}, lambda event, **data: said.append((event, data)))
    assert [data["key"] for event, data in said if event == "image"] == ["0", "2"]
    ((key, reason),) = [(data["key"], data["reason"]) for event, data in said if event == "left out"]
    assert key == "1" and "1.png" in reason and "no kernel image" in reason


def test_a_training_whose_score_cannot_be_had_is_kept(workspace, tmp_path, monkeypatch):
    """The network may be trained for minutes and the process that scores it may end for want of memory."""
    for item in workspace.items[:2]:
        session = workspace.session(item.key)
        session.edit("add", {"ring": [[10, 10], [40, 10], [40, 40], [10, 40]]})
        session.review(None, True)

    def trained(self, job, command, run, log):
        run.mkdir()

    def lost(self, task):
        raise InputError("the process of the network ended by itself")
        yield

    monkeypatch.setattr(Jobs, "_run_training", trained)
    monkeypatch.setattr(Child, "run", lost)
    jobs = Jobs(workspace, Events())
    job = jobs.train()
    end = time.monotonic() + 60
    while job.state in ("waiting", "running") and time.monotonic() < end:
        time.sleep(0.02)
    try:
        assert job.state == "done", job
        assert "ended by itself" in job.result["unscored"] and "before" not in job.result
        assert Path(job.result["model"]).is_dir()
        jobs.decide(job.id, keep=True)
        assert workspace.model == job.result["model"]
    finally:
        jobs.close()


def test_an_image_that_is_gone_or_another_one_by_now_is_left_out_of_what_is_learned(sample_images, tmp_path):
    images = [Path(shutil.copy(path, tmp_path / f"{number}.png")) for number, path in enumerate(sample_images[:4])]
    first = Workspace(tmp_path / "work", list(map(str, images)))
    for item in first.items:
        session = first.session(item.key)
        session.edit("add", {"ring": [[10, 10], [40, 10], [40, 40], [10, 40]]})
        session.review(None, True)
    first.close()
    again = Workspace(tmp_path / "work", list(map(str, images)))
    images[0].unlink()
    cv2.imwrite(str(images[2]), np.zeros((50, 60), np.uint8))
    try:
        made = make_data_set(again, tmp_path / "data")
        assert made.train + made.held == 2
        gone, other = (made.left_out[item.key] for item in (again.items[0], again.items[2]))
        assert "0.png" in gone and "60 x 50" in other
        for image in images[1], images[3]:
            image.unlink()
        again._pictures.clear()
        with pytest.raises(InputError, match=r"0\.png"):
            make_data_set(again, tmp_path / "none")
    finally:
        again.close()


@pytest.mark.slow
def test_a_command_ends_with_its_server(tmp_path):
    """A server that is killed closes the pipe, whatever else happens."""
    command = [sys.executable, "-m", "maskseg.serve.bound", "serve", "-o", str(tmp_path / "work"), "--no-browser"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert b"token=" in child.stdout.readline()
    time.sleep(0.5)
    assert child.poll() is None
    child.stdin.close()
    assert child.wait(30) == 1


@pytest.fixture
def workspace(sample_images, tmp_path):
    workspace = Workspace(tmp_path / "work", [str(path) for path in sample_images])
    yield workspace
    workspace.close()


def test_the_data_set_holds_the_reviewed_regions_pixel_by_pixel(workspace, tmp_path):
    key = workspace.items[0].key
    session = workspace.session(key)
    session.edit("add", {"ring": [[10, 10], [40, 10], [40, 40], [10, 40]]})
    session.edit("add", {"ring": [[60, 20], [90, 20], [90, 60], [60, 60]]})
    session.review((20, 0, 84, 50), True)
    made = make_data_set(workspace, tmp_path / "data")
    assert (made.train, made.held, made.nuclei) == (1, 0, 2)
    (record,) = dataset_dicts(f"{tmp_path / 'data'}:{TRAIN}")
    image, truth = load_record(record)
    np.testing.assert_array_equal(image, workspace.picture(key).region((20, 0, 84, 50)))
    expected = np.zeros((50, 64), bool)
    expected[10:40, :20] = expected[20:50, 40:] = True
    np.testing.assert_array_equal(truth > 0, expected)


@pytest.mark.slow
def test_an_image_stays_in_its_part_and_every_fourth_is_held_back(workspace, tmp_path):
    parts = {}
    for number, item in enumerate(workspace.items):
        session = workspace.session(item.key)
        session.edit("add", {"ring": [[10, 10], [40, 10], [40, 40], [10, 40]]})
        session.review(None, True)
        make_data_set(workspace, tmp_path / f"data{number}")
        for part in (TRAIN, HELD):
            if part == TRAIN or number:
                for record in dataset_dicts(f"{tmp_path / f'data{number}'}:{part}"):
                    assert parts.setdefault(record["image_id"], part) == part
    assert list(parts.values()).count(HELD) == 2 and len(parts) == len(workspace.items)


def test_without_reviewed_nuclei_there_is_nothing_to_learn(workspace, tmp_path):
    with pytest.raises(InputError, match="mark it as reviewed"):
        make_data_set(workspace, tmp_path / "data")
    workspace.session(workspace.items[0].key).review(None, True)
    with pytest.raises(InputError, match="no nucleus"):
        make_data_set(workspace, tmp_path / "data")


def test_a_damaged_list_of_models_is_named(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "models.json").write_text('{"model": "nucl')
    with pytest.raises(InputError, match=r"models\.json: not a JSON file.*move it away"):
        Workspace(tmp_path / "work")


@pytest.mark.slow
def test_channel_and_plane_are_chosen_for_all_images(serve, tmp_path):
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:96, :96]
    disks = sum(((x - a) ** 2 + (y - b) ** 2 < 100) for a, b in ((20, 20), (60, 30), (40, 70)))
    noise = rng.integers(0, 9, (3, 2, 96, 96))
    stack = np.stack([np.stack([40 * disks.T * (z == 1), 200 * disks * (z == 1)]) for z in range(3)])
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(
        path,
        (stack + noise).astype(np.uint8),
        photometric="minisblack",
        metadata={"axes": "ZCYX", "Channel": {"Name": ["FITC", "DAPI"]}},
    )
    unread = serve(path, folder=tmp_path / "unread")
    key = unread.get("/api/state")["images"][0]["key"]
    status, said = unread.ask("GET", f"/api/images/{key}")
    assert status == 422 and "--plane" in said["detail"]

    server = serve(path, "--channel", "DAPI", "--plane", "z=max", folder=tmp_path / "max")
    (row,) = server.get("/api/state")["images"]
    done = server.wait_for(server.ask("POST", "/api/predictions", {"images": [row["key"]]})[1])
    assert done["state"] == "done" and not done["result"]["left_out"], done
    labels = tifffile.imread(io.BytesIO(server.get(f"/api/images/{row['key']}/download/labels")))
    assert labels.max() == 3 and (labels[disks > 0] > 0).mean() > 0.8

    planes = serve("--channel", "1", "--plane", "z=all", folder=tmp_path / "all")
    headers = {"Content-Type": "application/octet-stream"}
    assert planes.ask("PUT", "/api/upload/stack.ome.tif", path.read_bytes(), headers)[0] == 200
    rows = planes.get("/api/state")["images"]
    assert len({row["key"] for row in rows}) == len({row["name"] for row in rows}) == 3
    planes.kill()
    planes.start()
    assert planes.get("/api/state")["images"] == rows
