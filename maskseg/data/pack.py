"""A data set as one small folder for the way to another machine, and back; no pixel changes.

A packed data set holds ``annotations.json.gz``, ``images/`` and ``split.csv`` where there was one. Commands and
training read it as they read any other. Each image is in the smallest of these forms that gives the same pixels:

- lossless WebP of the RGB that `maskseg.imaging.reading.read_image` gives, for images of at most 8 bits;
- TIFF with deflate and a predictor, for TIFF files of more bits or of more than 16,383 pixels a side;
- the file as it was (a JPEG is smaller than anything else that holds its pixels).
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from maskseg.core.errors import InputError, unexpected
from maskseg.core.files import check_file, sync_tree, write_whole
from maskseg.core.locks import alone_and_swept
from maskseg.core.processes import in_order
from maskseg.core.threads import available_cores
from maskseg.data.split import SPLIT_FILE
from maskseg.formats.coco import ANNOTATIONS, PACKED, load_coco, read_annotations
from maskseg.imaging.reading import leads_outside, read_image

# On the DSB images, beside method 4: method 2 takes 0.7 of the time for 3 % more bytes, method 5 three times as
# long for 2 % fewer. The quality of a lossless image is effort too, and does nothing at method 4.
_WEBP = {"lossless": True, "method": 4, "quality": 0}
_WEBP_SIDE = 16383
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass
class Packing:
    """What was packed or unpacked.

    Attributes
    ----------
    images, masks : int
        Written.
    bytes_before, bytes_after : int
        Size of all files.
    left_out : list of str
        A line for each image that cannot be read; its annotations are left out with it.
    """

    images: int = 0
    masks: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    left_out: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        sizes = f"{self.bytes_before / 1e6:.1f} MB -> {self.bytes_after / 1e6:.1f} MB"
        return f"{self.images} images with {self.masks} nuclei, {sizes}"


def pack(source: str | Path, out: str | Path, workers: int | None = None, progress: bool = True) -> Packing:
    """Pack a data set; the files are the same, byte for byte, whatever the number of processes.

    Parameters
    ----------
    source, out : path
        The data set, and the folder that gets it packed.
    workers : int, optional
        Processes; one for each core where not given.
    progress : bool
        Show a bar on a terminal.

    Raises
    ------
    InputError
        If `source` is no data set, `out` holds one that is not packed, or no image can be read.
    """
    return _transfer(Path(source), Path(out), PACKED, packed_image, workers, progress)


def unpack(source: str | Path, out: str | Path, workers: int | None = None, progress: bool = True) -> Packing:
    """Unpack a data set: WebP images become PNG (RGB), all other files are as they are in the pack.

    Parameters and errors are those of `pack`.
    """
    return _transfer(Path(source), Path(out), ANNOTATIONS, unpacked_image, workers, progress)


def packed_image(data: bytes, name: str) -> tuple[bytes, str]:
    """The smallest form of an image file, and the ending of its name: of `name` where it stays as it is."""
    pixels = read_image(data, name)
    suffix = PurePosixPath(name).suffix
    if _at_most_8_bits(data) and max(pixels.shape) <= _WEBP_SIDE:
        content, ending = _saved(pixels, "WEBP", **_WEBP), ".webp"
    elif data[:4] in _TIFF_STARTS:
        content, ending = _deflated(data), suffix
    else:
        return data, suffix
    # A form that does not give the same pixels is not used: better large than wrong.
    if len(content) < len(data) and np.array_equal(read_image(content, name), pixels):
        return content, ending
    return data, suffix


def unpacked_image(data: bytes, name: str) -> tuple[bytes, str]:
    """A WebP file as PNG, any other as it is, and the ending of its name."""
    pixels = read_image(data, name)
    suffix = PurePosixPath(name).suffix
    return (_saved(pixels, "PNG"), ".png") if suffix == ".webp" else (data, suffix)


def _saved(pixels: NDArray[np.uint8], kind: str, **settings: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


def _at_most_8_bits(data: bytes) -> bool:
    if data[:4] in _TIFF_STARTS:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            return file.pages.first.dtype in (np.uint8, bool)
    with Image.open(io.BytesIO(data)) as image:
        # Of 16-bit colour PNG Pillow says that it is 8-bit.
        return image.mode[0] not in "IF" and not (image.format == "PNG" and data[24] == 16)


def _deflated(data: bytes) -> bytes:
    """A TIFF file of one page with deflate and a predictor; any other as it is."""
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages.first
        if len(file.pages) != 1:
            return data
        pixels, photometric, planar = page.asarray(), page.photometric, page.planarconfig
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer, pixels, photometric=photometric, planarconfig=planar if pixels.ndim == 3 else None,
        compression="zlib", compressionargs={"level": 9}, predictor=True, metadata=None, software=False,
    )  # fmt: skip
    same = np.array_equal(tifffile.imread(io.BytesIO(buffer.getvalue())), pixels)
    return buffer.getvalue() if same else data


def _transfer(
    source: Path,
    out: Path,
    annotations: str,
    change: Callable[[bytes, str], tuple[bytes, str]],
    workers: int | None,
    progress: bool,
) -> Packing:
    """Write a data set with each image in another form, and its annotations into the file of that name."""
    path = load_coco(source).path  # says what is wrong with it
    content = read_annotations(path)
    other = out / (PACKED if annotations == ANNOTATIONS else ANNOTATIONS)
    if other.exists() or out.resolve() == path.parent.resolve():
        raise InputError(f"{out}: holds a data set already; choose another folder")
    if path.name == annotations:
        state, remedy = ("packed", "--unpack") if annotations == PACKED else ("not packed", "no --unpack")
        raise InputError(f"{path.parent}: is {state} already; give {remedy}, or copy it as it is")
    names = [image["file_name"] for image in content["images"]]
    taken: dict[str, str] = {}
    for name in names:
        first = taken.setdefault(str(PurePosixPath(name).with_suffix("")).lower(), name)
        if first != name or leads_outside(name):
            reason = f"has the id of {first}" if first != name else "leads outside its folder"
            raise InputError(f"{path}: image {name} {reason}; rename it and convert again")
    work = partial(_transfer_image, path.parent / "images", out / "images", change)
    with alone_and_swept(out), closing(in_order(work, names, workers or available_cores())) as done:
        bar = tqdm(done, out.name, len(names), unit="image", disable=None if progress else True)
        return _write_annotations(path, content, out, annotations, bar)


def _write_annotations(
    path: Path, content: dict[str, Any], out: Path, annotations: str, outcomes: Iterable[tuple[str, int, int] | str]
) -> Packing:
    """The files of all images, once there are those of each; `outcomes` are what `_transfer_image` gives."""
    result = Packing(bytes_before=path.stat().st_size)
    images = []
    for image, outcome in zip(content["images"], outcomes, strict=True):
        if isinstance(outcome, str):
            result.left_out.append(outcome)
            continue
        name, before, after = outcome
        images.append({**image, "file_name": name})
        result.bytes_before += before
        result.bytes_after += after
    if not images:
        first = f" ({result.left_out[0]})" if result.left_out else ""
        raise InputError(f"{path}: no image in it can be read{first}; convert it again")
    kept = {image["id"] for image in images}
    content = {
        **content,
        "images": images,
        "annotations": [item for item in content["annotations"] if item["image_id"] in kept],
    }
    split = path.parent / SPLIT_FILE
    if split.is_file():
        with write_whole(out / SPLIT_FILE) as file:
            file.write(split.read_bytes())
        result.bytes_before += split.stat().st_size
        result.bytes_after += split.stat().st_size
    sync_tree(out / "images")
    text = json.dumps(content).encode() if annotations == ANNOTATIONS else _zipped(content)
    with write_whole(out / annotations) as file:
        file.write(text)
    result.images, result.masks = len(images), len(content["annotations"])
    result.bytes_after += len(text)
    return result


def _zipped(content: Any) -> bytes:
    # Without the time of day, so that the same data set gives the same file.
    return gzip.compress(json.dumps(content, separators=(",", ":")).encode(), 9, mtime=0)


def _transfer_image(
    source: Path, target: Path, change: Callable[[bytes, str], tuple[bytes, str]], name: str
) -> tuple[str, int, int] | str:
    """Write one image in another form; its new name, size before and size after, or what is wrong with it."""
    path = source / name
    try:
        check_file(path)
        data = path.read_bytes()
        content, suffix = change(data, str(path))
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); check the path"
    except InputError as error:
        return str(error)
    except Exception as error:  # of one image, whatever it is: the others are packed
        return f"{path}: {unexpected(error)}"
    name = str(PurePosixPath(name).with_suffix(suffix))
    # Not synced one by one: the annotations, written last, make them valid.
    with write_whole(target / name, sync=False) as file:
        file.write(content)
    return name, len(data), len(content)
