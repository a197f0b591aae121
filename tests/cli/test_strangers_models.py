"""Names that somebody else wrote, where there is a network: what predicts, trains and serves. See `test_strangers`."""

import os
import re
import tempfile
import zipfile
from urllib.parse import quote

import cv2
import numpy as np
import pytest

from maskseg.formats.registry import formats, predicted
from maskseg.inference import api
from tests.cli.test_strangers import SHAPE, contents, outside, own_data, plain
from tests.fixtures.training import TINY
from tests.fixtures.watching import watched
from tests.inference.test_run import Outlines

__all__ = ["outside"]


def picture(number):
    """A PNG with a bright square, each another one."""
    pixels = np.full(SHAPE, 9, np.uint8)
    pixels[8:20, 8 : 20 + number % 20] = 200
    return cv2.imencode(".png", pixels)[1].tobytes()


def write_all(folder, names):
    """Files by these names as far as the system takes them, and a zip file of all."""
    folder.mkdir(parents=True)
    (folder / "good.png").write_bytes(picture(0))
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        archive.writestr("also good.png", picture(1))
        for number, name in enumerate(dict.fromkeys(map(plain, names)), start=2):
            if name and len(name) < 5000:
                archive.writestr(name, picture(number))
    for number, name in enumerate(names, start=100):
        # A name and no path.
        if isinstance(name, str) and not {"/", "\0"} & set(name) and name not in ("", ".", "..") and len(name) < 250:
            try:
                (folder / name).write_bytes(picture(number))
            except UnicodeEncodeError:
                continue


@pytest.mark.slow
@pytest.mark.parametrize("source", ["a folder", "its zip file"])
def test_of_images_to_predict(maskseg, tmp_path, outside, source, monkeypatch):
    mine, out = tmp_path / "mine", tmp_path / "out"
    write_all(mine, [*outside.names, "two words.png", "../good.png", "a/../../../b.png"])
    before = contents(mine)
    monkeypatch.setattr(api, "build_predictor", lambda *_: Outlines())
    out.mkdir()
    # What is written in a folder that is open already is noted without its path.
    monkeypatch.chdir(out)
    given = mine if source == "a folder" else mine / "set.zip"
    chosen = [name for name in predicted() if not formats()[name].package]
    with watched() as touched:
        status, said, err = maskseg("predict", given, "-o", out, "--formats", ",".join(chosen))
    touched.changed.discard(os.path.realpath(tempfile.gettempdir()))  # for a file without a name
    outside.check_touched(touched, mine, out)
    assert status in (0, 1), err
    assert "Traceback" not in err and "\x1b" not in said + err and "fault of maskseg" not in err, err
    done = {path.stem for path in (out / "geojson").iterdir()}
    assert {"good", "also good"} & done
    assert len(done) > 5
    assert contents(mine) == before
    for path in out.rglob("*"):
        if path.suffix in (".csv", ".svg", ".geojson", ".json", ".xml"):
            text = path.read_bytes()
            assert b"\x1b" not in text, path
            # Kaggle compares the ids of a submission letter by letter.
            assert path.name == "submission.csv" or not re.search(rb"^=1|,=1", text, re.MULTILINE), path


# One of each kind that leads elsewhere, and of each that is no name.
@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 6, 8, 10, 22, 24, 28, 34, 41, 44, 46])
def test_of_a_data_set_to_train_on(maskseg, tmp_path, outside, place):
    mine, out = tmp_path / "mine", tmp_path / "out"
    own_data(mine / "data", ["good.png", outside.names[place]])
    values = {**TINY, "DATASETS.TRAIN": f"('{mine / 'data'}',)", "DATASETS.TEST": "()", "OUTPUT_DIR": out}
    values |= {"SOLVER.MAX_ITER": 1, "TEST.EVAL_PERIOD": 0}
    words = [str(word) for pair in values.items() for word in pair]
    out.mkdir()
    with watched() as touched:
        status, said, err = maskseg("train", "--config-file", "nuclei_R_18_FPN", "--num-gpus", 0, *words)
    outside.check_touched(touched, mine, out)
    assert status in (0, 1, 2), err
    assert "Traceback" not in err and "\x1b" not in said + err and "No such option" not in err, err


@pytest.mark.slow
def test_of_uploads_to_the_page(tmp_path, outside):
    testclient = pytest.importorskip("fastapi.testclient")
    from maskseg.serve.app import create_app
    from maskseg.serve.state import Server
    from maskseg.serve.workspace import Workspace

    work = tmp_path / "work"
    server = Server(Workspace(work, []), 1 << 20)
    server.warm_up = lambda: None
    client = testclient.TestClient(create_app(server), raise_server_exceptions=True)
    names = [*map(plain, outside.names), *(name for name in outside.names if isinstance(name, str)), "good.png"]
    taken = 0
    with watched() as touched:
        for number, name in enumerate(dict.fromkeys(names)):
            if not name or "\ud800" in name or len(name) > 4000:
                continue
            answer = client.put(f"/api/upload/{quote(name, safe='')}", content=picture(number))
            assert answer.status_code in (200, 201) or 400 <= answer.status_code < 500, (name, answer.text)
            assert "\x1b" not in answer.text
            taken += answer.is_success
        state = client.get("/api/state")
        shown = [client.get(f"/api/images/{row['key']}/thumbnail").status_code for row in state.json()["images"]]
    server.close()
    outside.check_touched(touched, work, work)
    assert set(shown) == {200} and len(shown) == taken > 5
    files = [
        path for path in tmp_path.rglob("*.png") if not path.is_relative_to(work) and path.parent != outside.folder
    ]
    assert not files
