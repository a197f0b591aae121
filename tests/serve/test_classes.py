"""Classes by name: one list for all images, kept through crashes, in every file that names them."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest
from roifile import ImagejRoi

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.serve.app import create_app
from maskseg.serve.classes import Classes, numbers_of
from maskseg.serve.retrain import make_data_set
from maskseg.serve.session import LOG, Session
from maskseg.serve.state import Server
from maskseg.serve.workspace import Workspace

SHAPE = (48, 64)


def test_numbers_are_given_once_and_names_stay(tmp_path):
    classes = Classes(tmp_path / "classes.json")
    assert classes.rows() == []
    assert [classes.number(name) for name in ("tumor", "stroma", " tumor ")] == [1, 2, 1]
    classes.rename(1, "cancer")
    classes.remove(2, used=0)
    assert classes.number("lymphocyte") == 3
    again = Classes(tmp_path / "classes.json")
    assert again.names == {1: "cancer", 3: "lymphocyte"} and again.number("x") == 4
    assert [row["kind"] for row in again.rows()] == [1, 3, 4, 0]
    assert len({row["colour"] for row in again.rows()}) == 4


@pytest.mark.parametrize(
    "wrong",
    [
        lambda c: c.number(""),
        lambda c: c.number("  "),
        lambda c: c.number("x" * 61),
        lambda c: c.number("unclassified"),
        lambda c: c.rename(7, "a"),
        lambda c: c.rename(1, "stroma"),
        lambda c: c.remove(1, used=3),
        lambda c: c.remove(9, used=0),
    ],
)
def test_what_cannot_be_is_said_in_a_line_and_changes_nothing(tmp_path, wrong):
    classes = Classes(tmp_path / "classes.json")
    numbers_of(["tumor", "stroma"], classes)
    before = (tmp_path / "classes.json").read_bytes()
    with pytest.raises(InputError) as caught:
        wrong(classes)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "classes.json").read_bytes() == before


@pytest.mark.parametrize("content", ["", "[]", '{"names": {"1": ""}, "last": 1}', '{"names": {"0": "a"}, "last": 0}'])
def test_a_damaged_list_is_named(tmp_path, content):
    (tmp_path / "classes.json").write_text(content)
    with pytest.raises(InputError, match=r"classes\.json.*move it away"):
        Classes(tmp_path / "classes.json")


def test_a_model_of_one_class_gives_none(tmp_path):
    assert numbers_of(["nucleus"], Classes(tmp_path / "classes.json")) == {}
    assert not (tmp_path / "classes.json").exists()


def found(*kinds):
    """Squares of the given classes, as a model finds them."""
    boxes = np.array([[k * 12, 4, k * 12 + 9, 20] for k in range(len(kinds))])
    return CropMasks(SHAPE, boxes, [np.ones((16, 9), bool)] * len(kinds), classes=np.array(kinds))


def test_the_classes_of_a_prediction_are_in_the_log(tmp_path):
    session = Session(tmp_path, SHAPE)
    # The model's second class has the number 1 here, its first one 4.
    session.predicted(found(0, 1, 1), "model", {4: "stroma", 1: "tumor"})
    assert [nucleus.kind for nucleus in session.nuclei] == [4, 1, 1]
    session.edit("classify", {"ids": [1], "kind": 2}, classes={2: "dirt"})
    session.close()
    again = Session(tmp_path, SHAPE)
    assert [nucleus.kind for nucleus in again.nuclei] == [2, 1, 1]
    assert again.class_names == {4: "stroma", 1: "tumor", 2: "dirt"}
    assert again.kinds() == {1, 2}
    again.undo()
    assert [nucleus.kind for nucleus in again.nuclei] == [4, 1, 1]


def test_masks_of_an_older_version_have_no_class(tmp_path):
    session = Session(tmp_path, SHAPE)
    session.predicted(found(0, 0), "model")
    (path,) = tmp_path.glob("predicted-*.npz")
    with np.load(path) as data:
        kept = {name: data[name] for name in data.files if name != "classes"}
    np.savez(path, **kept)
    session.close()
    assert [nucleus.kind for nucleus in Session(tmp_path, SHAPE).nuclei] == [0, 0]


@pytest.fixture
def server(tmp_path, sample_images):
    workspace = Workspace(tmp_path / "work", [str(sample_images[0])])
    server = Server(workspace, 1 << 20)
    session = workspace.session(workspace.items[0].key)
    for k in range(4):
        session.edit("add", {"ring": [[k * 30, 5], [k * 30 + 20, 5], [k * 30 + 20, 40], [k * 30, 40]]})
    yield server
    server.close()


@pytest.fixture
def client(server):
    server.warm_up = lambda: None
    return pytest.importorskip("fastapi.testclient").TestClient(create_app(server))


@pytest.mark.slow
def test_every_download_names_the_classes(client, server, monkeypatch):
    events = []
    monkeypatch.setattr(server.events, "send", lambda kind, data: events.append(kind))
    key = server.workspace.items[0].key
    path = f"/api/images/{key}/download"
    assert "class" not in client.get(f"{path}/table").text.splitlines()[0]
    assert client.post("/api/classes", json={"name": "tumor"}).json()[0]["name"] == "tumor"
    assert client.post("/api/classes", json={"name": "stroma"}).status_code == 200
    for number, kind in ((1, 1), (2, 2), (3, 1)):
        edit = {"op": "classify", "ids": [number], "kind": kind}
        assert client.post(f"/api/images/{key}/edits", json={"edit": edit}).status_code == 200
    assert client.put("/api/classes/2", json={"name": "stromal"}).status_code == 200
    assert client.delete("/api/classes/1").status_code == 422
    expected = ["tumor", "stromal", "tumor", "unclassified"]

    features = json.loads(client.get(f"{path}/geojson").content)["features"]
    assert [one["properties"]["classification"]["name"] for one in features] == expected
    assert features[0]["properties"]["classification"]["color"] == [200, 0, 0]
    rows = list(csv.DictReader(io.StringIO(client.get(f"{path}/table").text)))
    assert [row["class"] for row in rows] == expected
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{path}/rois").content))
    rois = [ImagejRoi.frombytes(archive.read(name)) for name in archive.namelist()]
    assert [roi.group for roi in rois] == [1, 2, 1, 3]
    assert all(name in roi.props for roi, name in zip(rois, expected, strict=True))
    plain = server.workspace.session(key)
    assert client.get(f"{path}/overlay").content.startswith(b"\x89PNG")
    assert plain.kinds() == {1, 2} and events.count("classes") == 3


def test_a_number_without_a_name_gets_one(client, server):
    key = server.workspace.items[0].key
    edit = {"op": "classify", "ids": [1], "kind": 5}
    assert client.post(f"/api/images/{key}/edits", json={"edit": edit}).status_code == 200
    assert server.workspace.classes.names == {5: "class 5"}


def test_density_leaves_hidden_classes_out(client, server):
    key = server.workspace.items[0].key
    client.post(f"/api/images/{key}/edits", json={"edit": {"op": "classify", "ids": [1, 2, 3, 4], "kind": 1}})
    path = f"/api/images/{key}/density"
    whole, none = client.get(path).content, client.get(f"{path}?hide=1").content
    assert whole != none and client.get(f"{path}?hide=2").content == whole
    assert client.get(f"{path}?hide=x").status_code == 422


def test_a_lost_list_comes_back_from_the_logs(tmp_path, sample_images):
    folder = tmp_path / "work"
    workspace = Workspace(folder, [str(sample_images[0])])
    key = workspace.items[0].key
    session = workspace.session(key)
    session.edit("add", {"ring": [[5, 5], [25, 5], [25, 40], [5, 40]]})
    session.edit("add", {"ring": [[35, 5], [55, 5], [55, 40], [35, 40]]})
    kind = workspace.classes.number("tumor")
    session.edit("classify", {"ids": [1], "kind": kind}, classes={kind: "tumor"})
    session.edit("classify", {"ids": [2], "kind": 7})
    workspace.close()
    (folder / "classes.json").unlink()
    again = Workspace(folder, [str(sample_images[0])])
    assert again.session(key).kinds() == {kind, 7}
    assert again.classes.names == {kind: "tumor", 7: "class 7"}
    again.close()
    assert b"tumor" in (folder / "images" / key / LOG).read_bytes()


def test_what_is_learned_from_has_the_classes(server, tmp_path):
    workspace = server.workspace
    session = workspace.session(workspace.items[0].key)
    session.review(None, True)
    plain = make_data_set(workspace, tmp_path / "plain").folder
    assert load_coco(plain).class_names == ("nucleus",)
    classes = numbers_of(["tumor", "stroma"], workspace.classes)
    session.edit("classify", {"ids": [2], "kind": 2}, classes=classes)
    session.edit("classify", {"ids": [3, 4], "kind": 1}, classes=classes)
    data = load_coco(make_data_set(workspace, tmp_path / "data").folder)
    names = [data.class_of(item) for item in data.annotations[1]]
    assert names == ["unclassified", "stroma", "tumor", "tumor"]
