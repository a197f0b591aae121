"""DSB 2018 folders: ``ID/images/ID.png`` with one file a nucleus in ``ID/masks/``, also inside a zip file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from maskseg.core.errors import InputError
from maskseg.core.files import named_if_full, refuse_closed, walk, write_whole
from maskseg.core.masks import CropMasks
from maskseg.core.morphology import fill_holes
from maskseg.formats.reader import Item, LeftOut, Nuclei, Shape, unreadable_item
from maskseg.formats.writer import WholeWriter
from maskseg.imaging.containers import SUFFIXES
from maskseg.imaging.reading import ImageFile, leads_outside, zip_members

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


def recognises(source: Path) -> bool:
    """Whether a folder or zip file holds image folders with masks."""
    if not source.is_dir() and source.suffix.lower() != ".zip":
        return False
    try:
        return any(folder.masks for folder in _image_folders(source, []).values() if not folder.fault)
    except InputError:
        return False


def read(source: Path) -> Iterator[Item | LeftOut]:
    """The image folders below a folder, or in a zip file; further folders may lie between.

    Each mask is thresholded at `THRESHOLD`, cut to its box, and its holes are filled there. A mask in several pieces
    stays one mask, overlapping masks stay as they are. What is bad is left out: nothing else is lost to it.

    Raises
    ------
    InputError
        If there is no such folder, or the zip file is bad.
    """
    left_out: list[LeftOut] = []
    folders = _image_folders(source, left_out)
    yield from left_out
    for root in sorted(folders):
        where = f"{source}:{root}" if source.is_file() else str(source / root)
        folder = folders[root]
        if folder.fault:
            yield unreadable_item(where, folder.fault, annotation_count=len(folder.masks or []))
            continue
        (image,), masks = folder.images, folder.masks or []
        yield Item(image.id, partial(_load, image, tuple(masks)), where, image=image, annotation_count=len(masks))


def _load(image: ImageFile, files: tuple[ImageFile, ...], shape: Shape | None) -> Nuclei:
    nuclei = _read_masks(files, shape or image.size())
    if files and not len(nuclei.masks):
        raise InputError(f"none of its masks can be used (the first: {nuclei.left_out[0].reason}); mend them")
    return nuclei


def _read_masks(files: Sequence[ImageFile], shape: Shape) -> Nuclei:
    """The masks of one image, and those that are at fault."""
    boxes: list[tuple[int, int, int, int]] = []
    bitmaps: list[NDArray[np.bool_]] = []
    faults: list[LeftOut] = []
    first_of: dict[tuple[Any, bytes], ImageFile] = {}
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
        box = (x, y, x + w, y + h)
        first = first_of.setdefault((box, filled.tobytes()), file)
        if first is not file:
            faults.append(LeftOut(file.name, "duplicate mask", f"the same pixels as {first.name}; delete one"))
            continue
        boxes.append(box)
        bitmaps.append(filled)
    return Nuclei(CropMasks(shape, np.array(boxes, np.int32), bitmaps), left_out=faults)


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
        for where, _, names in walk(source, refuse_closed)
    }


# ---- nuclei to folders ----


class FolderWriter(WholeWriter):
    """One PNG a nucleus, 255 on 0, of the size of the image."""

    def write(self, masks: CropMasks) -> None:
        """See `WholeWriter`; the folder must be new, as files of a former one would be further nuclei."""
        folder = self.path
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder}: holds files already; give a new folder")
        with named_if_full(folder):
            folder.mkdir(parents=True, exist_ok=True)
        canvas = np.zeros(masks.shape, np.uint8)
        for number, ((x0, y0, x1, y1), bitmap) in enumerate(zip(masks.boxes, masks.bitmaps, strict=True), start=1):
            inside = canvas[y0:y1, x0:x1]
            inside[bitmap] = 255
            _, encoded = cv2.imencode(".png", canvas, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            inside[:] = 0
            with write_whole(folder / f"{number:04d}.png", sync=False) as file:
                file.write(encoded.data)
