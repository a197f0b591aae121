"""The widget: choose an image, a model and what is known of the nuclei; the result is a Labels layer.

The network runs in a thread, so that napari stays usable, and can be cancelled between two parts of an image.
"""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, Container, FloatSpinBox, Label, LineEdit, ProgressBar, PushButton
from napari.layers import Image
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error, show_info
from numpy.typing import NDArray
from qtpy.QtCore import QTimer

from maskseg.core.errors import InputError, unexpected
from maskseg.core.masks import CropMasks
from maskseg.imaging.reading import to_rgb8
from maskseg.models.library import added
from maskseg.models.zoo import bundled
from maskseg.napari_plugin.files import layer_of

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from maskseg.inference.predictor import Predictor

_SHOWN = "as shown"
_CHANNELS = (_SHOWN, "red", "green", "blue")
_VIEWS = {"as the model": None, "one view": "none", "two views": "flip", "eight views": "d4"}
_MILLISECONDS = 100


class Cancelled(Exception):
    """The user has cancelled."""


class Progress:
    """What the thread that predicts and the widget know of each other."""

    def __init__(self) -> None:
        self.parts = 0
        self.cancelled = threading.Event()


def pixels_of(layer: Image, step: tuple[int, ...], channel: str = _SHOWN) -> NDArray[np.uint8]:
    """The plane of a layer that is shown, or one of its colours, as the network eats it: uint8 (H, W, 3).

    Parameters
    ----------
    layer : napari Image layer
    step : tuple of int
        Position of the sliders, one for each dimension of the viewer.
    channel : str
        One of "as shown", "red", "green" and "blue".
    """
    data = layer.data[0] if layer.multiscale else layer.data
    spatial = 3 if layer.rgb else 2
    leading = data.ndim - spatial
    # The last dimensions of the viewer are those of the layer.
    at = step[len(step) - (leading + 2) : len(step) - 2]
    for position in at:
        data = data[int(np.clip(position, 0, data.shape[0] - 1))]
    plane = np.asarray(data)
    if channel != _SHOWN:
        if not layer.rgb:
            raise InputError(f"{layer.name}: is not in colour; choose the channel by its layer or slider")
        plane = plane[..., _CHANNELS.index(channel) - 1]
    return to_rgb8(plane)


def segment(predictor: Predictor, image: NDArray[np.uint8], tta: str | None, progress: Progress) -> CropMasks:
    """`Predictor.segment`, which counts the parts that are done and stops where it is cancelled.

    Raises
    ------
    Cancelled
    """
    watched = copy.copy(predictor)
    network: Any = getattr(predictor, "on_canvases", None)
    if network is not None:

        def counted(canvases: Any) -> Any:
            if progress.cancelled.is_set():
                raise Cancelled
            answers = network(canvases)
            progress.parts += len(canvases)
            return answers

        watched.on_canvases = counted  # type: ignore[attr-defined]
    masks = watched.segment(image, tta)
    if progress.cancelled.is_set():
        raise Cancelled
    return masks


class NucleusWidget(Container):
    """The controls, and what they do.

    Parameters
    ----------
    viewer : napari Viewer
    """

    def __init__(self, viewer: Viewer) -> None:
        self._viewer = viewer
        self.image = ComboBox(label="image", choices=self._images)
        self.channel = ComboBox(label="channel", choices=_CHANNELS)
        self.model = ComboBox(label="model", choices=lambda _: [*bundled(), *added()])
        self.other = LineEdit(label="or folder, file", tooltip="A training folder, or a .safetensors file.")
        self.diameter = FloatSpinBox(label="diameter", min=0, max=10_000, step=1, value=0)
        self.diameter.tooltip = "Median diameter of the nuclei in pixels; 0: found by itself."
        self.tta = ComboBox(label="views", choices=list(_VIEWS))
        self.replace = CheckBox(label="replace the last result", value=True)
        self.run = PushButton(text="Find nuclei")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.bar = ProgressBar(visible=False, min=0, max=0)
        self.said = Label(value="")
        super().__init__(
            widgets=[
                self.image,
                self.channel,
                self.model,
                self.other,
                self.diameter,
                self.tta,
                self.replace,
                self.run,
                self.cancel,
                self.bar,
                self.said,
            ]
        )
        self.run.changed.connect(self.start)
        self.cancel.changed.connect(self.stop)
        self._loaded: tuple[Any, Predictor] | None = None
        self._progress = Progress()
        self._worker: Any = None
        self._timer = QTimer(self.native)
        self._timer.timeout.connect(self._show_progress)
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(self._layers_changed)

    def _images(self, _: Any = None) -> list[Image]:
        return [layer for layer in self._viewer.layers if isinstance(layer, Image)]

    def _layers_changed(self, _: Any = None) -> None:
        self.image.reset_choices()

    def start(self) -> None:
        """Find the nuclei of the image that is chosen."""
        if self._worker is not None:
            return
        layer = self.image.value
        if layer is None:
            show_info("Open an image first.")
            return
        try:
            image = pixels_of(layer, self._viewer.dims.current_step, self.channel.value)
        except InputError as error:
            self._failed(error)
            return
        name = self.other.value.strip() or self.model.value
        self._progress = Progress()
        # Errors are shown here in one line; by themselves they would be a traceback.
        worker = create_worker(
            self._work, image, name, self.diameter.value, _VIEWS[self.tta.value], self._progress, _ignore_errors=True
        )
        worker.returned.connect(lambda masks: self._show(layer, masks))
        worker.errored.connect(self._failed)
        worker.finished.connect(self._finished)
        self._worker = worker
        self.run.enabled, self.cancel.enabled, self.bar.visible = False, True, True
        self.said.value = "loading the model"
        self._timer.start(_MILLISECONDS)
        worker.start()

    def stop(self) -> None:
        """Cancel: what runs ends before the next part of the image."""
        self._progress.cancelled.set()
        self.said.value = "cancelling"

    def _work(
        self, image: NDArray[np.uint8], name: str, diameter: float, tta: str | None, progress: Progress
    ) -> CropMasks:
        """In the thread: the nuclei."""
        return segment(self._predictor(name, diameter), image, tta, progress)

    def _predictor(self, name: str, diameter: float) -> Predictor:
        """The model, which is loaded once."""
        from maskseg.inference.api import load_model
        from maskseg.models.zoo import find_model

        wanted = (name, diameter)
        if self._loaded is None or self._loaded[0] != wanted:
            if diameter and not find_model(name).cfg.INPUT.NUCLEUS_DIAMETER:
                raise InputError(f"the model {name} does not know the size of its nuclei; set the diameter to 0")
            overrides = ["POSTPROCESS.DIAMETER", str(float(diameter))] if diameter else []
            self._loaded = wanted, load_model(name, overrides)
        return self._loaded[1]

    def _show_progress(self) -> None:
        if self._progress.parts and not self._progress.cancelled.is_set():
            self.said.value = f"{self._progress.parts} parts of the image done"

    def _show(self, layer: Image, masks: CropMasks) -> None:
        import pandas as pd

        self._timer.stop()
        labels, attributes, _ = layer_of(masks, f"{layer.name} nuclei")
        name, features = attributes["name"], pd.DataFrame(attributes["features"])
        if self.replace.value and name in self._viewer.layers:
            self._viewer.layers[name].data = labels
            self._viewer.layers[name].features = features
        else:
            # Where the image lies in the world.
            place = {"scale": layer.scale[-2:], "translate": layer.translate[-2:]}
            self._viewer.add_labels(labels, name=name, features=features, **place)
        self.said.value = f"{len(masks)} nuclei"

    def _failed(self, error: Exception) -> None:
        self._timer.stop()
        if isinstance(error, Cancelled):
            self.said.value = "cancelled"
            return
        said = str(error) if isinstance(error, InputError) else unexpected(error)
        self.said.value = said
        show_error(said)

    def _finished(self) -> None:
        self._worker = None
        self._timer.stop()
        self.run.enabled, self.cancel.enabled, self.bar.visible = True, False, False
