"""The REST interface: what a script does with it, and what schemathesis does to it."""

import io
import json
import zipfile
from collections import Counter

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, Phase, given, settings
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.serve.app import create_app
from maskseg.serve.pictures import Picture
from maskseg.serve.state import Server
from maskseg.serve.workspace import Workspace


@pytest.fixture(scope="module")
def app(tmp_path_factory, sample_images):
    """The application in this process, with an image that has nuclei, and a network that is never asked."""
    workspace = Workspace(tmp_path_factory.mktemp("served") / "work", [str(path) for path in sample_images[:2]])
    server = Server(workspace, 1 << 20)
    server.warm_up = lambda: None
    for item in workspace.items:
        session = workspace.session(item.key)
        for k in range(5):
            session.edit("add", {"ring": [[k * 30, 5], [k * 30 + 20, 5], [k * 30 + 20, 40], [k * 30, 40]]})
    yield create_app(server)
    server.close()


@pytest.fixture(scope="module")
def client(app):
    testclient = pytest.importorskip("fastapi.testclient")
    return testclient.TestClient(app, raise_server_exceptions=True)


@pytest.fixture
def key(client):
    return client.get("/api/state").json()["images"][0]["key"]


@pytest.mark.slow
def test_every_download_holds_the_nuclei(client, key, app):
    session = app.state.server.workspace.session(key)
    numbers, masks = session.nuclei.masks()
    path = f"/api/images/{key}/download"
    labels = tifffile.imread(io.BytesIO(client.get(f"{path}/labels").content))
    np.testing.assert_array_equal(labels, masks.to_labels())
    features = json.loads(client.get(f"{path}/geojson").content)["features"]
    assert [one["properties"]["measurements"]["area"] for one in features] == masks.areas.tolist()
    assert len(zipfile.ZipFile(io.BytesIO(client.get(f"{path}/rois").content)).namelist()) == len(numbers)
    lines = client.get(f"{path}/table").text.splitlines()
    assert [int(line.split(",")[3]) for line in lines[1:]] == masks.areas.tolist()
    assert client.get(f"{path}/overlay").content.startswith(b"\x89PNG")


def test_tiles_show_the_image_at_every_level(client, key, app):
    picture: Picture = app.state.server.workspace.picture(key)
    whole = picture.region((0, 0, picture.shape[1], picture.shape[0]))
    for z in range(picture.depth + 1):
        side = 256 << z
        for y in range(-(-picture.shape[0] // side)):
            for x in range(-(-picture.shape[1] // side)):
                answer = client.get(f"/api/images/{key}/tiles/{z}/{x}/{y}")
                tile = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
                part = whole[y * side : (y + 1) * side, x * side : (x + 1) * side]
                height, width = -(-part.shape[0] >> z), -(-part.shape[1] >> z)
                shown = tile[: part.shape[0] >> z, : part.shape[1] >> z]
                assert tile.shape == (256, 256, 3) and height and width
                assert abs(shown.mean() - part.mean()) < 3
        assert client.get(f"/api/images/{key}/tiles/{z}/99/0").status_code == 422
    assert client.get(f"/api/images/{key}/tiles/-1/0/0").status_code == 422


def test_outlines_come_once_each_over_the_parts_of_a_division(client, key, app):
    nuclei = app.state.server.workspace.session(key).nuclei
    seen = []
    for y in range(0, nuclei.shape[0], 64):
        for x in range(0, nuclei.shape[1], 64):
            box = {"x0": x, "y0": y, "x1": x + 64, "y1": y + 64}
            data = np.frombuffer(client.get(f"/api/images/{key}/outlines", params=box).content, "<i4")
            assert data[0] == app.state.server.workspace.session(key).version
            at = 1
            while at < len(data):
                number, rings = data[at : at + 2]
                seen.append(int(number))
                at += 2
                for _ in range(rings):
                    points = data[at + 1 : at + 1 + 2 * data[at]].view("<f4").reshape(-1, 2)
                    assert (points >= 0).all() and (points <= nuclei.shape[::-1]).all()
                    at += 1 + 2 * data[at]
    assert sorted(seen) == nuclei.masks()[0]


def test_an_answer_to_an_edit_names_what_changed(client, key):
    before = client.get(f"/api/images/{key}/nuclei").json()
    split = {"edit": {"op": "split", "line": [[10, 0], [10, 60]]}, "version": before["version"]}
    answer = client.post(f"/api/images/{key}/edits", json=split).json()
    assert {row["id"] for row in answer["rows"]} == {1, 6} == set(map(int, answer["rings"]))
    assert answer["undo"] == "split" and answer["count"] == 6
    back = client.post(f"/api/images/{key}/undo").json()
    assert back["gone"] == [6] and back["rows"][0]["area"] == before["area"][0]
    again = client.get(f"/api/images/{key}/nuclei").json()
    assert {**again, "version": 0} == {**before, "version": 0}


def test_unknown_things_are_not_found(client, key):
    assert client.get("/api/images/none").status_code == 404
    assert client.get("/api/jobs/77").status_code == 404
    assert client.post("/api/predictions", json={"images": ["none"]}).status_code == 404
    assert client.post("/api/predictions", json={"images": [key], "model": "/etc/passwd"}).status_code == 404
    assert client.post("/api/model", json={"model": "/etc/passwd"}).status_code == 404


def test_the_interface_is_documented(client):
    api = client.get("/api/openapi.json").json()
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            assert operation.get("description"), (method, path)


@pytest.mark.slow
def test_nothing_that_schemathesis_sends_ends_in_a_server_error(app, monkeypatch):
    schemathesis = pytest.importorskip("schemathesis")
    server = app.state.server
    # What would start the network is answered at once.
    monkeypatch.setattr(server, "ask", lambda task: ([0, 0, 2, 2, "04", 1.0, 0, 1], ["nucleus"]))
    monkeypatch.setattr(server.jobs, "_predict", lambda job: None)
    monkeypatch.setattr(server.jobs, "_train", _no_training)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", _never_ending(app))
    real = [item.key for item in server.workspace.items]
    sent = Counter()
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path != "/api/events":  # which never ends
            _send(operation, real[0], sent)
    assert sent[2] > 50 and sent[4] > 50, sent


def _never_ending(app):
    """An application without what begins and ends with it: some clients end it after each request."""

    async def answer(scope, receive, send):
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return
        for step in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{step}.complete"})

    return answer


def _no_training(job):
    raise InputError("there is no network in this test")


def _send(operation, key, sent):
    """Send what schemathesis makes up for an operation; half of it to an image that is there."""

    @settings(
        max_examples=20,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
        database=None,
    )
    @given(case=operation.as_strategy())
    def send(case):
        if len(str((case.path_parameters or {}).get("key", ""))) % 2:
            case.path_parameters["key"] = key
        answer = case.call()
        sent[answer.status_code // 100] += 1
        assert answer.status_code < 500, (operation.label, case.as_curl_command(), answer.text)

    send()


def test_a_bad_input_does_not_keep_the_others_from_being_served(tmp_path, sample_images):
    workspace = Workspace(tmp_path / "work", [str(tmp_path / "missing"), str(sample_images[0])])
    try:
        assert len(workspace.items) == 1
        (line,) = workspace.left_out
        assert "missing: no image found" in line
    finally:
        workspace.close()
