"""The plugin of napari, offscreen: its manifest, widget, reader, writers and sample images."""

import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("napari", reason="napari is not installed: pip install 'maskseg[napari]'")
pytest.importorskip("pytestqt", reason="pytest-qt is not installed")
npe2 = pytest.importorskip("npe2")

from napari.layers import Image, Labels  # noqa: E402

import maskseg.napari_plugin  # noqa: E402
from maskseg.core.errors import InputError  # noqa: E402
from maskseg.core.masks import CropMasks  # noqa: E402
from maskseg.formats.geojson import read_geojson  # noqa: E402
from maskseg.formats.labels import write_labels  # noqa: E402
from maskseg.napari_plugin import files, widget  # noqa: E402

MANIFEST = Path(maskseg.napari_plugin.__file__).with_name("napari.yaml")
# Milliseconds that something which is to happen is waited for: a display drawn by a busy processor is slow.
WAIT = 120_000


@pytest.fixture
def masks():
    labels = np.zeros((40, 50), int)
    labels[3:9, 4:12], labels[20:30, 30:41], labels[12:15, 2:4] = 1, 2, 3
    return CropMasks.from_labels(labels, [0.9, 0.7, 0.5])


class Squares:
    """In place of a network: each bright square is a nucleus."""

    def __init__(self):
        self.asked, self.waits = threading.Event(), None

    def on_canvases(self, canvases):
        self.asked.set()
        if self.waits:
            self.waits.wait(WAIT / 1000)
        return canvases

    def segment(self, image, tta=None):
        for _ in range(3):
            (canvas,) = self.on_canvases([image])
        return CropMasks.from_labels((canvas[..., 0] > 100).astype(int), [0.8])


# A viewer with an image needs OpenGL, which Qt's own offscreen platform has not: xvfb-run gives both.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    pytest.skip("no display; run: xvfb-run python -m pytest tests/napari_plugin", allow_module_level=True)


@pytest.fixture
def opened(make_napari_viewer):
    """A viewer with an image and the widget, whose model is `Squares`."""
    viewer, model = make_napari_viewer(), Squares()
    image = np.zeros((3, 40, 50), np.uint8)
    image[1, 5:15, 10:22] = 200
    viewer.add_image(image, name="stack", scale=(1, 0.5, 0.5))
    made = widget.NucleusWidget(viewer)
    viewer.window.add_dock_widget(made)
    made._loaded = ("nuclei", 0.0), model
    return viewer, made, model


def test_the_manifest_is_valid_and_all_it_names_is_there():
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    for command in manifest.contributions.commands:
        module, name = command.python_name.split(":")
        assert hasattr(__import__(module, fromlist=[name]), name)


def test_the_result_is_a_labels_layer_with_scores_where_the_image_lies(opened, qtbot):
    viewer, made, _ = opened
    viewer.dims.set_current_step(0, 1)
    made.run.changed.emit(True)
    qtbot.waitUntil(lambda: made._worker is None and len(viewer.layers) == 2, timeout=WAIT)
    layer = viewer.layers["stack nuclei"]
    assert isinstance(layer, Labels) and layer.data.max() == 1 and layer.data.sum() == 120
    np.testing.assert_allclose(layer.scale, (0.5, 0.5))
    assert layer.features.loc[layer.features["index"] == 1, "score"].item() == pytest.approx(0.8)
    assert made.said.value == "1 nuclei" and made.run.enabled and not made.cancel.enabled
    # Again into the same layer.
    made.run.changed.emit(True)
    qtbot.waitUntil(lambda: made._worker is None, timeout=WAIT)
    assert len(viewer.layers) == 2


def test_it_is_cancelled_between_two_parts(opened, qtbot):
    viewer, made, model = opened
    model.waits = threading.Event()
    made.run.changed.emit(True)
    assert model.asked.wait(WAIT / 1000)
    made.cancel.changed.emit(True)
    model.waits.set()
    qtbot.waitUntil(lambda: made._worker is None and made.said.value == "cancelled", timeout=WAIT)
    assert len(viewer.layers) == 1 and made._progress.parts == 1


def test_what_goes_wrong_is_said_in_one_line(opened, qtbot, monkeypatch):
    _, made, _ = opened
    shown = []
    monkeypatch.setattr(widget, "show_error", shown.append)
    made.other.value = "nowhere"
    made.run.changed.emit(True)
    qtbot.waitUntil(lambda: made._worker is None and bool(shown), timeout=WAIT)
    assert shown == [made.said.value] and shown[0].startswith("nowhere: no such model") and made.run.enabled


@pytest.mark.slow
def test_the_bundled_model_finds_nuclei_in_the_sample_image(make_napari_viewer, qtbot):
    viewer = make_napari_viewer()
    (layer,) = files.fluorescence()
    viewer.add_image(layer[0], **layer[1])
    made = widget.NucleusWidget(viewer)
    made.tta.value = "one view"
    made.start()
    qtbot.waitUntil(lambda: made._worker is None and len(viewer.layers) == 2, timeout=WAIT)
    assert viewer.layers[1].data.max() > 5


def test_planes_and_colours():
    stack = Image(np.arange(2 * 4 * 5, dtype=np.uint8).reshape(2, 4, 5))
    np.testing.assert_array_equal(widget.pixels_of(stack, (1, 0, 0))[..., 0], stack.data[1])
    np.testing.assert_array_equal(widget.pixels_of(stack, (9, 1, 0, 0))[..., 2], stack.data[1])
    colour = Image(np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3), rgb=True)
    np.testing.assert_array_equal(widget.pixels_of(colour, (0, 0)), colour.data)
    np.testing.assert_array_equal(widget.pixels_of(colour, (0, 0), "green")[..., 0], colour.data[..., 1])
    with pytest.raises(InputError, match="not in colour"):
        widget.pixels_of(stack, (0, 0, 0), "red")


def test_layers_go_to_files_and_back(masks, tmp_path):
    data, attributes, kind = files.layer_of(masks, "a")
    assert kind == "labels"
    files.write_geojson_file(str(tmp_path / "a.geojson"), data, attributes)
    back = read_geojson(tmp_path / "a.geojson", masks.shape)
    np.testing.assert_array_equal(back.to_labels() > 0, data > 0)
    np.testing.assert_allclose(sorted(back.scores), sorted(masks.scores), rtol=1e-3)
    files.write_coco_file(str(tmp_path / "a.json"), data, attributes)
    assert len(json.loads((tmp_path / "a.json").read_text())["annotations"]) == 3
    reader = files.get_reader(str(tmp_path / "a.json"))
    ((read, about, _),) = reader(str(tmp_path / "a.json"))
    np.testing.assert_array_equal(read > 0, data > 0)
    np.testing.assert_allclose(sorted(about["features"]["score"][1:]), sorted(masks.scores), rtol=1e-3)


def test_a_nucleus_that_was_drawn_has_the_score_1_and_a_deleted_one_is_gone(masks):
    data, attributes, _ = files.layer_of(masks, "a")
    data[data == 2] = 0
    data[35:38, 45:48] = 9
    found = files.masks_of(data, attributes)
    np.testing.assert_allclose(found.scores, [0.9, 0.5, 1.0])
    with pytest.raises(InputError, match="dimensions"):
        files.masks_of(np.zeros((2, 4, 4), int), {})


def test_results_of_predict_are_opened_and_other_files_left_to_others(masks, tmp_path):
    results = tmp_path / "out"
    (results / "labels").mkdir(parents=True)
    (results / "images.csv").write_text("image_id\n")
    write_labels(results / "labels" / "one.tif", masks.to_labels())
    write_labels(results / "labels" / "two.tif", masks[:1].to_labels())
    layers = files.get_reader(str(results))(str(results))
    assert [about["name"] for _, about, _ in layers] == ["one nuclei", "two nuclei"]
    np.testing.assert_array_equal(layers[0][0], masks.to_labels())
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "empty").mkdir()
    assert files.get_reader(str(tmp_path / "notes.json")) is None
    assert files.get_reader(str(tmp_path / "empty")) is None


def test_sample_images_are_there():
    ((grey, _, _),), ((colour, about, _),) = files.fluorescence(), files.tissue()
    assert grey.ndim == 2 and colour.shape[2] == 3 and about["rgb"]
