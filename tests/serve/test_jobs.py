"""The queue: real work in real children, cancelled, failing, and gone with the server."""

import io
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_record
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
