"""A model as a package for the programs of bioimage.io: ilastik, deepImageJ, BiaPy and others.

A U-Net is what these programs are made for: an image in, a map of probabilities out. It is written as TorchScript,
which needs nothing of maskseg. What a Mask R-CNN finds is a list of boxes and masks, which the specification cannot
express; the package holds its weights, names maskseg as the architecture, and gives the label image that maskseg
makes of them. So it runs only where maskseg is installed, and says so.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.modeling import build_model
from numpy.typing import NDArray
from torch import Tensor, nn

from maskseg import __version__
from maskseg.core.errors import InputError
from maskseg.core.files import write_whole
from maskseg.imaging.stains import DENSITY
from maskseg.inference.api import build_predictor
from maskseg.inference.predictor import Predictor
from maskseg.models import tasks
from maskseg.models.config import default_config
from maskseg.models.zoo import card, find_model

# Of the test image, a multiple of any stride.
_SIDE = 256


class LabelNetwork(nn.Module):
    """A model with all that maskseg does before and after it, from an image to its label image.

    Parameters
    ----------
    config : str
        As YAML.
    """

    def __init__(self, config: str) -> None:
        super().__init__()
        cfg = default_config(config, ["MODEL.DEVICE", "cpu"], Path("bioimageio.yaml"))
        self.network = build_model(cfg).to(memory_format=torch.channels_last)
        self._predictor: Predictor = tasks.part(cfg, "predictor")(cfg, self.network.eval())

    def forward(self, images: Tensor) -> Tensor:
        """Label images, int32 (N, 1, H, W), of images (N, 3, H, W) with values of 0 to 255."""
        found = [
            self._predictor.segment(np.ascontiguousarray(image.clamp(0, 255).round().byte().permute(1, 2, 0).cpu()))
            for image in images
        ]
        return torch.from_numpy(np.stack([masks.to_labels()[None] for masks in found]))


class ProbabilityNetwork(nn.Module):
    """A U-Net as the programs of bioimage.io call it: images (N, 3, H, W) in, probabilities (N, 1, H, W) out."""

    def __init__(self, network: Any, channels: list[int]) -> None:
        super().__init__()
        self.network, self.channels = network, channels

    def forward(self, images: Tensor) -> Tensor:
        """See above."""
        return self.network.logits(images[:, self.channels]).sigmoid()


def write_package(name: str, out: Path, overrides: list[str] | None = None) -> None:
    """Write a package.

    Parameters
    ----------
    name : str
        As for `maskseg.models.zoo.find_model`.
    out : Path
        The ``.zip`` to write.
    overrides : list of str, optional
        KEY VALUE pairs over the model's own config.

    Raises
    ------
    InputError
        The model gives no nuclei, or the file cannot be written.
    """
    found = find_model(name, [*(overrides or []), "MODEL.DEVICE", "cpu"])
    predictor = build_predictor(found.cfg, found.weights)
    if type(predictor).segment is Predictor.segment:
        raise InputError(f"{name}: a {predictor.title} gives no masks, so no package of bioimage.io is made of it")
    image = _test_image()
    pixels = torch.from_numpy(image.transpose(2, 0, 1)[None].astype(np.float32))
    pixelwise = hasattr(predictor.model, "logits")
    files = _pixelwise(predictor, pixels) if pixelwise else _whole(predictor, pixels)
    files["test_input.npy"] = _saved(pixels)
    about = str(Path(name).name.removesuffix(".safetensors") or name)
    files["README.md"] = _readme(about, predictor, pixelwise).encode()
    files["bioimageio.yaml"] = yaml.safe_dump(
        _description(about, predictor, files, pixelwise), sort_keys=False, allow_unicode=True
    ).encode()
    with write_whole(out) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in files.items():
            # The same bytes whenever it is written.
            archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)


def _pixelwise(predictor: Predictor, pixels: Tensor) -> dict[str, bytes]:
    channels = [0, 1, 2] if predictor.cfg.INPUT.FORMAT == "RGB" else [2, 1, 0]
    network = ProbabilityNetwork(predictor.model, channels).eval()
    for value in network.parameters():
        value.requires_grad_(False)
    with torch.no_grad():
        traced = torch.jit.trace(network, pixels, check_trace=False)
        output = traced(pixels)
    written = io.BytesIO()
    torch.jit.save(traced, written)
    return {"weights.torchscript.pt": written.getvalue(), "test_output.npy": _saved(output)}


def _whole(predictor: Predictor, pixels: Tensor) -> dict[str, bytes]:
    network = LabelNetwork(_config(predictor)).eval()
    network.network.load_state_dict(predictor.model.state_dict())
    with torch.no_grad():
        output = network(pixels)
    written = io.BytesIO()
    # Tensors alone, which are read without running code.
    torch.save(dict(network.state_dict()), written)
    environment = {
        "name": "maskseg",
        "channels": ["conda-forge", "nodefaults"],
        "dependencies": ["python>=3.11", "pip", {"pip": [f"maskseg=={__version__}"]}],
    }
    return {
        "weights.pt": written.getvalue(),
        "environment.yaml": yaml.safe_dump(environment, sort_keys=False).encode(),
        "test_output.npy": _saved(output),
    }


def _config(predictor: Predictor) -> str:
    cfg = predictor.cfg.clone()
    cfg.defrost()
    # The paths of the training are private, and do not exist on other machines.
    cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR = "", "."
    return str(cfg.dump())


def _test_image() -> NDArray[np.uint8]:
    """Bright disks on black, uint8 (H, W, 3): what every model of nuclei finds."""
    rows, columns = np.mgrid[:_SIDE, :_SIDE]
    image = np.full((_SIDE, _SIDE), 12.0)
    rng = np.random.default_rng(0)
    for y in range(32, _SIDE, 64):
        for x in range(32, _SIDE, 64):
            far = np.hypot((rows - y) / rng.uniform(9, 14), (columns - x) / rng.uniform(9, 14))
            image += 170 / (1 + np.exp(12 * (far - 1)))
    noisy = image + rng.normal(0, 3, image.shape)
    return np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def _saved(tensor: Tensor) -> bytes:
    written = io.BytesIO()
    np.save(written, tensor.numpy(), allow_pickle=False)
    return written.getvalue()


def _file(files: dict[str, bytes], name: str) -> dict[str, str]:
    return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}


def _description(name: str, predictor: Predictor, files: dict[str, bytes], pixelwise: bool) -> dict[str, Any]:
    """The resource description, of the model specification 0.5."""
    levels = len(predictor.cfg.MODEL.UNET.CHANNELS) if pixelwise else 1
    size = {"min": 2 ** (levels + 3), "step": 2 ** (levels - 1)} if pixelwise else {"min": 64, "step": 1}
    batch: dict[str, Any] = {"type": "batch"} if pixelwise else {"type": "batch", "size": 1}
    torch_version = torch.__version__.partition("+")[0]
    weights: dict[str, Any] = {"pytorch_version": torch_version}
    if pixelwise:
        weights = {"torchscript": {**_file(files, "weights.torchscript.pt"), **weights}}
    else:
        weights = {
            "pytorch_state_dict": {
                **_file(files, "weights.pt"),
                "architecture": {
                    "callable": LabelNetwork.__name__,
                    "import_from": LabelNetwork.__module__,
                    "kwargs": {"config": _config(predictor)},
                },
                **weights,
                "dependencies": _file(files, "environment.yaml"),
            }
        }
    output: dict[str, Any] = {
        "id": "probability" if pixelwise else "labels",
        "description": "Probability of each pixel to be of a nucleus."
        if pixelwise
        else "Label image: 0 is background, each nucleus has a number of its own.",
        "axes": [
            batch,
            {"type": "channel", "channel_names": ["nucleus"]},
            *({"type": "space", "id": axis, "size": {"tensor_id": "image", "axis_id": axis}} for axis in "yx"),
        ],
        "data": {"type": "float32", "range": [0, 1]} if pixelwise else {"type": "int32"},
        "test_tensor": _file(files, "test_output.npy"),
    }
    return {
        "type": "model",
        "format_version": "0.5.4",
        "name": f"maskseg {name} {predictor.title}".replace(".", " ").replace("/", " "),
        "description": f"Nuclei in microscope images: {predictor.title} of maskseg {__version__}.",
        "authors": [{"name": "the authors of maskseg"}],
        "cite": [{"text": "Caicedo et al., Nature Methods 16 (2019) 1247", "doi": "10.1038/s41592-019-0612-7"}],
        "license": card().get(name, {}).get("licence"),
        "documentation": "README.md",
        "tags": ["nuclei", "segmentation" if pixelwise else "instance-segmentation", "2d", "maskseg"],
        "inputs": [
            {
                "id": "image",
                "description": "RGB with values of 0 to 255; grey is given three times.",
                "axes": [
                    batch,
                    {"type": "channel", "channel_names": ["red", "green", "blue"]},
                    *({"type": "space", "id": axis, "size": size} for axis in "yx"),
                ],
                "data": {"type": "float32", "range": [0, 255]},
                "preprocessing": [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}],
                "test_tensor": _file(files, "test_input.npy"),
            }
        ],
        "outputs": [output],
        "weights": weights,
    }


def _readme(name: str, predictor: Predictor, pixelwise: bool) -> str:
    cfg = predictor.cfg
    before = (
        ""
        if cfg.INPUT.NORMALIZE == "off"
        else (
            f"\nmaskseg stretches the brightness of an image first (INPUT.NORMALIZE {cfg.INPUT.NORMALIZE}); "
            + ("do so, or images in another range of values are predicted worse.\n" if pixelwise else "so does this.\n")
        )
    )
    if pixelwise and cfg.INPUT.STAINED == DENSITY:
        before += "It shows stained tissue by the red light that it takes away, bright on dark; do so, too.\n"
    if pixelwise:
        what = (
            "The network alone, as TorchScript. Nuclei are the connected regions above the threshold "
            f"{cfg.POSTPROCESS.MASK_THRESHOLD}; maskseg itself also parts those that touch.\n"
            "The image is not scaled: nuclei should be about as large in pixels as those it was trained on"
            + (f" ({cfg.INPUT.NUCLEUS_DIAMETER:g} pixels across).\n" if cfg.INPUT.NUCLEUS_DIAMETER else ".\n")
        )
    else:
        what = (
            "A Mask R-CNN gives boxes, masks and scores, of which the specification of bioimage.io knows nothing. "
            "This package gives the label image that maskseg makes of them, without scores, and needs maskseg "
            f"(`pip install maskseg=={__version__}`): it runs in bioimageio.core, and not in programs that take "
            "TorchScript or ONNX only. The size of the output is that of the input.\n"
        )
    return (
        f"# {name}\n\n{what}{before}\n## Validation\n\nCompare with annotations of your own images: "
        "`maskseg evaluate --truth TRUTH --pred LABELS`. Scores of the models that come with maskseg are in their "
        "card: `maskseg models card`.\n"
    )
