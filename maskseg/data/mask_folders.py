"""DSB 2018 folders to COCO: ``ID/images/ID.png`` with one file a nucleus in ``ID/masks/``; a folder or a zip file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from maskseg import rle
from maskseg.data.coco import ANNOTATIONS, write_coco
from maskseg.errors import InputError
from maskseg.files import write_whole
from maskseg.images import SUFFIXES, ImageFile, read_image, zip_members
from maskseg.morphology import fill_holes

# A mask pixel is set above this, as in the published method.
_THRESHOLD = 128
_PNG_END = b"IEND\xaeB`\x82"


@dataclass
class Summary:
    """What a conversion did.

    Attributes
    ----------
    images, masks : int
        Written.
    left_out : list of (file, reason)
        Every image, mask or folder that was not.
    """

    images: int = 0
    masks: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)

    def __str__(self) -> str:
        kinds = Counter(reason.partition(";")[0].partition(":")[0] for _, reason in self.left_out)
        text = f"{self.images} images with {self.masks} nuclei"
        return text + (
            f"; left out {len(self.left_out)}: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items())
            if kinds
            else ""
        )


@dataclass
class _Folder:
    """One image folder: its image files and its mask files (None without a ``masks/``)."""

    images: list[ImageFile] = field(default_factory=list)
    masks: list[ImageFile] | None = None


def convert(
    source: str | Path, out: str | Path, modalities: Mapping[str, str] | None = None, progress: bool = True
) -> Summary:
    """Convert mask folders to a COCO data set.

    Each mask is thresholded at 128, cut to its box, its holes filled there, and stored as COCO run lengths; images
    are copied as they are. A mask in several pieces stays one mask, overlapping masks stay as they are. What is bad
    is left out and listed: nothing else is lost to it.

    Parameters
    ----------
    source : path
        A folder of image folders, or a zip file of one.
    out : path
        Gets ``annotations.json`` and ``images/``.
    modalities : mapping of image id to str, optional
        Put into the image records.
    progress : bool
        Show a bar.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If there is no image folder at all, or the zip file is bad.
    """
    source, out = Path(source), Path(out)
    folders = _zip_folders(source) if source.is_file() else _disk_folders(source)
    summary = Summary()
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    roots: dict[str, str] = {}
    for root in tqdm(sorted(folders), desc="convert", unit="image", disable=None if progress else True):
        name = PurePosixPath(root).name
        where = f"{source}:{root}" if source.is_file() else str(source / root)
        try:
            if name in roots:
                raise InputError(f"id twice: also {roots[name]}; rename one of the folders")
            file = _image_of(folders[root])
            data = file.bytes()
            pixels = read_image(data, file.name)
        except InputError as error:
            summary.left_out.append((where, _reason(error, where)))
            continue
        roots[name] = root
        file_name = name + Path(file.member or file.path).suffix.lower()
        with write_whole(out / "images" / file_name) as target:
            target.write(data)
        record = {"id": len(images) + 1, "file_name": file_name, "height": pixels.shape[0], "width": pixels.shape[1]}
        if modalities and name in modalities:
            record["modality"] = modalities[name]
        images.append(record)
        for item in _annotations(folders[root].masks or [], pixels.shape[:2], summary):  # type: ignore[arg-type]
            annotations.append({"id": len(annotations) + 1, "image_id": record["id"], **item})
    if not images:
        reason = f" ({summary.left_out[0][1]})" if summary.left_out else ""
        raise InputError(
            f"{source}: no image folder could be converted{reason}; expected ID/images/ID.png and ID/masks/*.png"
        )
    write_coco(out / ANNOTATIONS, images, annotations)
    summary.images, summary.masks = len(images), len(annotations)
    return summary


def _reason(error: InputError, where: str) -> str:
    return str(error).removeprefix(f"{where}: ")


def _image_of(folder: _Folder) -> ImageFile:
    if not folder.images:
        raise InputError("no image in it; put it into images/ with the folder's name")
    if len(folder.images) > 1:
        raise InputError(f"{len(folder.images)} images in it; a folder holds one")
    if folder.masks is None:
        raise InputError("no masks/ beside images/; add it, empty if there is no nucleus")
    return folder.images[0]


def _annotations(files: list[ImageFile], shape: tuple[int, int], summary: Summary) -> list[dict[str, Any]]:
    """COCO annotations of the masks of one image, without id and image_id."""
    found: list[dict[str, Any]] = []
    seen: dict[tuple[str, int], str] = {}
    for file in files:
        try:
            mask = read_mask(file.bytes(), file.name)
            if mask.shape != shape:
                raise InputError(f"mask of {mask.shape} pixels on an image of {shape}; make the sizes equal")
            x, y, w, h = cv2.boundingRect(mask)
            if w == 0:
                raise InputError(f"empty mask: no pixel above {_THRESHOLD}; delete it")
            crop = fill_holes(mask[y : y + h, x : x + w] != 0)
            runs = rle.crop_to_runs(crop, (x, y, x + w, y + h), shape)
            segmentation = rle.runs_to_coco(*runs, shape)
            other = seen.setdefault((segmentation["counts"], x), file.name)
            if other != file.name:
                raise InputError(f"duplicate mask: the same as {other}; delete one")
        except InputError as error:
            summary.left_out.append((file.name, _reason(error, file.name)))
            continue
        found.append(
            {
                "category_id": 1,
                "iscrowd": 0,
                "bbox": [x, y, w, h],
                "area": int(runs[1].sum()),
                "segmentation": segmentation,
            }
        )
    return found


def read_mask(data: bytes, name: str) -> NDArray[np.uint8]:
    """A mask file as uint8 (H, W), 255 where a pixel is above 128.

    Raises
    ------
    InputError
        If it is damaged or cut short.
    """
    # OpenCV is the fastest reader, but gives what there is of a file that is cut short.
    whole = not data.startswith(b"\x89PNG") or data.rstrip(b"\0").endswith(_PNG_END)
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if whole and data else None
    if mask is None:
        raise InputError(f"{name}: damaged mask: cut short or not a picture; get it again")
    return cv2.threshold(mask, _THRESHOLD, 255, cv2.THRESH_BINARY)[1]


def _disk_folders(source: Path) -> dict[str, _Folder]:
    if not source.is_dir():
        raise InputError(f"{source}: no such folder or zip file; check the path")
    folders: dict[str, _Folder] = {}
    for path in sorted(source.iterdir()):
        if not path.is_dir():
            continue
        # One level may lie between, as in stage1_train/ID/images.
        inner = [path] if _is_image_folder(path) else [item for item in sorted(path.iterdir()) if item.is_dir()]
        for item in inner or [path]:
            folder = folders.setdefault(item.relative_to(source).as_posix(), _Folder())
            if (item / "images").is_dir():
                folder.images = [
                    ImageFile(p.stem, p) for p in sorted((item / "images").iterdir()) if p.suffix.lower() in SUFFIXES
                ]
            if (item / "masks").is_dir():
                folder.masks = [
                    ImageFile(p.stem, p) for p in sorted((item / "masks").iterdir()) if p.suffix.lower() in SUFFIXES
                ]
    return folders


def _is_image_folder(path: Path) -> bool:
    return (path / "images").is_dir() or (path / "masks").is_dir()


def _zip_folders(source: Path) -> dict[str, _Folder]:
    folders: dict[str, _Folder] = {}
    for name in zip_members(source):
        path = PurePosixPath(name)
        if len(path.parts) < 3 or path.suffix.lower() not in SUFFIXES:
            continue
        folder = folders.setdefault(path.parent.parent.as_posix(), _Folder())
        file = ImageFile(path.stem, source, name)
        if path.parent.name == "images":
            folder.images.append(file)
        elif path.parent.name == "masks":
            folder.masks = folder.masks or []
            folder.masks.append(file)
    return folders
