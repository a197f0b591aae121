"""DSB 2018 folders to COCO: ``ID/images/ID.png`` with one file a nucleus in ``ID/masks/``, also inside a zip file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.convert.convert import LeftOut, Picture, Result, Summary, Task, annotation, run
from maskseg.core.errors import InputError
from maskseg.core.morphology import fill_holes
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, leads_outside, member_path, read_image, zip_members

# A mask pixel is set above this, as in the published method.
THRESHOLD = 128
_PNG_START, _PNG_END = b"\x89PNG", b"IEND\xaeB`\x82"
# What file managers leave behind.
_JUNK = {"thumbs.db", "desktop.ini"}


@dataclass
class _Folder:
    """One image folder: its image files and its mask files (None without a ``masks/``)."""

    images: list[ImageFile] = field(default_factory=list)
    masks: list[ImageFile] | None = None

    @property
    def fault(self) -> str | None:
        """What is wrong with its files, by their names alone."""
        if not self.images:
            return "no image in it; put it into images/"
        if len(self.images) > 1:
            return f"{len(self.images)} images in it; give each image its own folder"
        if self.masks is None:
            return "no masks/ beside images/; add it, empty if there is no nucleus"
        return None


def convert(
    source: str | Path,
    out: str | Path,
    modalities: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
) -> Summary:
    """Convert mask folders to a COCO data set.

    Each mask is thresholded at 128, cut to its box, its holes filled there, and stored as COCO run lengths; images
    are copied as they are. A mask in several pieces stays one mask, overlapping masks stay as they are. What is bad
    is left out and listed: nothing else is lost to it.

    Parameters
    ----------
    source : path
        A folder of image folders, or a zip file of one; further folders may lie between.
    out : path
        Gets ``images/`` and, at the end, ``annotations.json``.
    modalities : mapping of image id to str, optional
        Put into the image records.
    workers : int
        Processes; see `maskseg.convert.convert.run`.
    progress : bool
        Show a bar on a terminal.

    Returns
    -------
    Summary

    Raises
    ------
    InputError
        If no image can be converted, or the zip file is bad.
    """
    source = Path(source)
    summary = Summary("mask files")
    folders = _image_folders(source, summary.left_out)
    tasks = []
    for root in sorted(folders):
        where = f"{source}:{root}" if source.is_file() else str(source / root)
        folder = folders[root]
        name = folder.images[0].id if not folder.fault else None
        tasks.append(Task(where, folder, name, len(folder.masks or [])))
    return run(
        tasks,
        _read_folder,
        Path(out),
        summary,
        expected=f"ID/images/ID.png and ID/masks/*.png in {source}",
        modalities=modalities,
        workers=workers,
        progress=progress,
    )


def _read_folder(folder: _Folder) -> Result:
    if folder.fault:
        raise InputError(folder.fault)
    (file,), mask_files = folder.images, folder.masks or []
    data = file.bytes()
    shape = read_image(data, f"images/{file.id}").shape[:2]
    found, faults = _read_masks(mask_files, shape)  # type: ignore[arg-type]
    if mask_files and not found:
        raise InputError(f"none of its masks can be used (the first: {faults[0].reason}); mend them")
    file_name = file.id + member_path(file.member or file.path.name).suffix.lower()
    return Result([Picture(file_name, data, shape, found)], len(mask_files), faults)  # type: ignore[arg-type]


def _read_masks(files: list[ImageFile], shape: tuple[int, int]) -> tuple[list[dict[str, Any]], list[LeftOut]]:
    """COCO annotations of the masks of one image, without id and image_id, and the masks that are at fault."""
    found: list[dict[str, Any]] = []
    faults: list[LeftOut] = []
    first_of: dict[str, ImageFile] = {}
    for file in files:
        try:
            mask = read_mask(file.bytes())
        except InputError as error:
            faults.append(LeftOut(file.name, "unreadable mask", str(error)))
            continue
        if mask.shape != shape:
            sizes = f"{mask.shape[0]}x{mask.shape[1]} pixels on an image of {shape[0]}x{shape[1]}"
            faults.append(LeftOut(file.name, "mask of another size", f"{sizes}; make them equal"))
            continue
        # Nearly all masks hold 0 and 255 only, so the box of what is not 0 is small and the rest is done inside it.
        x, y, w, h = cv2.boundingRect(mask)
        crop = cv2.threshold(mask[y : y + h, x : x + w], THRESHOLD, 1, cv2.THRESH_BINARY)[1] if w else mask
        left, top, w, h = cv2.boundingRect(crop)
        if w == 0:
            reason = f"no pixel above {THRESHOLD}; make the nucleus 255 or delete the file"
            faults.append(LeftOut(file.name, "empty mask", reason))
            continue
        filled = fill_holes(crop[top : top + h, left : left + w] != 0)
        x, y = x + left, y + top
        item = annotation(filled, (x, y, x + w, y + h), shape)
        first = first_of.setdefault(item["segmentation"]["counts"], file)
        if first is not file:
            faults.append(LeftOut(file.name, "duplicate mask", f"the same pixels as {first.name}; delete one"))
            continue
        found.append(item)
    return found, faults


def read_mask(data: bytes) -> NDArray[np.uint8]:
    """A mask file as grey values, uint8 (H, W).

    Raises
    ------
    InputError
        If it is damaged, cut short or no picture.
    """
    # OpenCV is the fastest reader, but older versions give what there is of a file that is cut short.
    whole = _PNG_END in data if data.startswith(_PNG_START) else bool(data)
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if whole else None
    if mask is None:
        raise InputError("damaged, cut short or not a picture; get it again")
    return mask  # type: ignore[return-value]


def _image_folders(source: Path, left_out: list[LeftOut]) -> dict[str, _Folder]:
    """Image folders by their path below the source. What cannot belong to one goes into `left_out`."""
    if source.is_file():
        files_of = _zip_files(source, left_out)
    elif source.is_dir():
        files_of = _disk_files(source)
    else:
        raise InputError(f"{source}: no such folder or zip file; check the path")

    folders: dict[str, _Folder] = {}
    directories: set[PurePosixPath] = set()
    for where, files in files_of.items():
        directory = PurePosixPath(where)
        if any(part.startswith(".") or part == "__MACOSX" for part in directory.parts):
            continue
        directories.update((directory, *directory.parents))
        if directory.name not in ("images", "masks"):
            continue
        folder = folders.setdefault(directory.parent.as_posix(), _Folder())
        kept = {name: file for name, file in files.items() if name[0] != "." and name.lower() not in _JUNK}
        # In one order, whatever the order in a zip file.
        if directory.name == "masks":
            folder.masks = [kept[name] for name in sorted(kept)]
        else:
            folder.images = [kept[name] for name in sorted(kept) if name.lower().endswith(SUFFIXES)]

    # A folder beside image folders that holds neither images/ nor masks/ is one that lost both.
    inside = {PurePosixPath(root) for root in folders}
    ancestors = {parent for path in inside for parent in path.parents}
    beside = {path.parent for path in inside if path.name}
    for directory in directories - inside - ancestors:
        if directory.parent in beside and directory.name not in ("images", "masks"):
            folders[directory.as_posix()] = _Folder()
    return folders


def _zip_files(source: Path, left_out: list[LeftOut]) -> dict[str, dict[str, ImageFile]]:
    """Directory -> file name -> file."""
    files_of: dict[str, dict[str, ImageFile]] = {}
    for member in zip_members(source):
        if leads_outside(member):
            left_out.append(LeftOut(f"{source}:{member}", "unsafe path", "leads outside the zip file; rename it"))
            continue
        # Some programs on Windows write backslashes.
        directory, _, name = member.replace("\\", "/").rpartition("/")
        files = files_of.setdefault(directory, {})
        if name:
            files[name] = ImageFile(PurePosixPath(name).stem, source, member)
    return files_of


def _disk_files(source: Path) -> dict[str, dict[str, ImageFile]]:
    """Directory -> file name -> file."""
    return {
        Path(where).relative_to(source).as_posix(): {
            name: ImageFile(Path(name).stem, Path(where) / name) for name in names
        }
        for where, _, names in os.walk(source)
    }
