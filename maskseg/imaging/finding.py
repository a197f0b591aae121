"""Images found in files, folders, globs, DSB image folders and zip files."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import tifffile

from maskseg.core.errors import InputError
from maskseg.core.files import check_file, walk
from maskseg.imaging import bioio_images
from maskseg.imaging.channels import ALL, IMAGE, Choice
from maskseg.imaging.containers import SUFFIXES, ZARR_SUFFIX, can_read
from maskseg.imaging.names import numbered, printable, unique_ids
from maskseg.imaging.reading import ImageFile, member_path, zip_members
from maskseg.imaging.tiff_metadata import ome_file_names
from maskseg.imaging.zarr_images import is_zarr_image

# Masks and labels lie beside the images in the layouts that are read; they are no images.
_NOT_IMAGES = ("masks", "labels", "overlays", "__MACOSX")
_OME_TIFF = (".ome.tif", ".ome.tiff", ".ome.btf", ".ome.tf8")


@dataclass
class LeftFiles:
    """Files of folders that were not taken for images.

    Attributes
    ----------
    kinds : Counter of str
        How many there are of each ending.
    parts : int
        Files that are read as part of another one: of an OME image in several files.
    packed : Counter of str
        How many there are in zip files that can be read once they are unpacked.
    closed : list of str
        Folders that cannot be read, each with what the system says.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    parts: int = 0
    packed: Counter[str] = field(default_factory=Counter)
    closed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One line, empty if there are none."""
        lines = []
        if self.kinds:
            listed = ", ".join(f"{kind} {count}" for kind, count in self.kinds.most_common())
            lines.append(f"{_files(self.kinds.total())} of other kinds left: {listed}")
            known: dict[str, list[str]] = {}
            for kind in sorted(set(self.kinds) & set(bioio_images.PACKAGES)):
                known.setdefault(bioio_images.how_to_read(kind), []).append(kind)
            lines += [f"{command} reads {', '.join(kinds)}" for command, kinds in known.items()]
        if self.packed:
            listed = ", ".join(f"{kind} {count}" for kind, count in self.packed.most_common())
            lines.append(f"{_files(self.packed.total())} in zip files left: {listed}; unpack them to read these")
        if self.parts:
            lines.append(f"{_files(self.parts)} read with the others of the same OME image")
        if self.closed:
            more = f" and {len(self.closed) - 3} more" if len(self.closed) > 3 else ""
            lines.append(f"folders that cannot be read: {', '.join(self.closed[:3])}{more}")
        return "; ".join(lines)


def _files(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"


@dataclass(frozen=True)
class _Found:
    """A file, the names around it from the inside out, and whether it was named itself."""

    file: ImageFile
    path: tuple[str, ...]
    named: bool


def find_images(
    inputs: Iterable[str | os.PathLike[str]],
    choice: Choice | None = None,
    out: str | os.PathLike[str] | None = None,
    left: LeftFiles | None = None,
    bad: list[str] | None = None,
) -> list[ImageFile]:
    """Images in files, folders (with all folders below), globs, DSB image folders and zip files, sorted by id.

    ``set.zip/test`` is the folder ``test`` in a zip file. Files below a folder named ``masks``, ``labels`` or
    ``overlays`` are no images, and hidden ones neither. Links to folders are followed, each folder once. Of an OME
    image in several files that are all there, a folder gives the first one.

    Parameters
    ----------
    inputs : iterable of path
    choice : Choice, optional
        The channel and plane of all of them; where it asks for all planes each is an image of its own.
    out : path, optional
        Folder of results: nothing in it is an image.
    left : LeftFiles, optional
        Counts what is left out of folders.
    bad : list of str, optional
        Gets a line for each input that is missing or holds no image, if there are others.

    Raises
    ------
    InputError
        If an input is missing or holds no image; with `bad` only if none holds one.
    """
    left = LeftFiles() if left is None else left
    results = None if out is None else Path(out).resolve()
    by_place: dict[tuple[str, str | None], _Found] = {}
    faults: list[str] = []
    for item in inputs:
        try:
            some = _images_of(os.fspath(item), results, left, None if bad is None else faults)
        except InputError as error:
            if bad is None:
                raise
            faults.append(str(error))
            continue
        for one in some:
            # Of the same folder; a link to a file is a file of its own.
            place = os.path.join(os.path.realpath(one.file.path.parent), one.file.path.name)  # noqa: PTH118
            by_place.setdefault((place, one.file.member), one)
    if faults and not by_place:
        raise InputError("; ".join(faults[:3]) + (f"; and {len(faults) - 3} more inputs" if len(faults) > 3 else ""))
    if bad is not None:
        bad += faults
    kept = _without_parts(list(by_place.values()), left)
    ids = unique_ids([one.path for one in kept])
    files = [replace(one.file, id=name, choice=choice or Choice()) for one, name in zip(kept, ids, strict=True)]
    planes = list(_each_plane(files))
    names = numbered(file.id for file in planes)
    return sorted((replace(file, id=name) for file, name in zip(planes, names, strict=True)), key=lambda file: file.id)


def _images_of(item: str, results: Path | None, left: LeftFiles, bad: list[str] | None) -> list[_Found]:
    """The images of one input, at least one unless `bad` gets what is wrong with each match of a pattern."""
    if not item:
        raise InputError("an input is empty, perhaps of a variable that is not set; name a file or folder")
    known = len(bad or ())
    some = list(_expand(item, results, left, bad))
    if not some and len(bad or ()) == known:
        note = f"; {left}" if left.kinds or left.packed or left.closed else ""
        raise InputError(f"{printable(item)}: no image found ({', '.join(SUFFIXES)}){note}; check the path")
    return some


def _expand(item: str, results: Path | None, left: LeftFiles, bad: list[str] | None) -> Iterator[_Found]:
    path = Path(item)
    if store := _store_of(path):
        # Named after both: the images of all stores are called 0, 1 and so on.
        inside = "_".join((store.stem, *path.relative_to(store).parts))
        yield _Found(ImageFile("", path), (inside, *_found(ImageFile("", store), store, named=True).path[1:]), True)
    elif path.is_dir() and path.suffix.lower() != ZARR_SUFFIX:
        yield from _in_folder(path, results, left)
    elif path.is_file() and path.suffix.lower() == ".zip":
        yield from _in_zip(path, "", left)
    elif path.exists():
        yield _found(ImageFile("", path), path, named=True)
    elif archive := next((part for part in path.parents if part.suffix.lower() == ".zip" and part.is_file()), None):
        yield from _in_zip(archive, path.relative_to(archive).as_posix(), left)
    else:
        for match in sorted(glob.glob(item, recursive=True)):  # noqa: PTH207  a pattern may be absolute
            if match == item or (results and Path(match).resolve().is_relative_to(results)):
                continue
            try:
                yield from _expand(match, results, left, bad)
            except InputError as error:
                if bad is None:
                    raise
                bad.append(str(error))


def _store_of(path: Path) -> Path | None:
    """The Zarr store around a folder that is one of several images in it."""
    store = next((part for part in path.parents if part.suffix.lower() == ZARR_SUFFIX), None)
    return store if store and path.is_dir() and is_zarr_image(path) else None


def _found(file: ImageFile, path: Path | PurePosixPath, named: bool = False) -> _Found:
    absolute = Path(path).absolute() if named or file.member is None else file.path.absolute() / path
    return _Found(file, (path.stem, *(part.name for part in absolute.parents if part.name), path.suffix), named)


def _in_folder(folder: Path, results: Path | None, left: LeftFiles) -> Iterator[_Found]:
    seen: set[tuple[int, int]] = set()

    def closed(error: OSError) -> None:
        left.closed.append(printable(f"{error.filename} ({error.strerror})"))

    for where, folders, names in walk(folder, closed, followlinks=True):
        here = Path(where)
        status = here.stat()
        inside = results is not None and here.resolve().is_relative_to(results)
        if (status.st_dev, status.st_ino) in seen or inside:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        images = sorted(name for name in folders if Path(name).suffix.lower() == ZARR_SUFFIX)
        folders[:] = sorted(name for name in folders if name not in (*images, *_NOT_IMAGES) and name[0] != ".")
        for name in (*sorted(names), *images):
            path = here / name
            # A link that leads nowhere is named when it is read.
            if name.startswith(".") or (name in images and results and path.resolve().is_relative_to(results)):
                continue
            if can_read(path.suffix.lower()):
                yield _found(ImageFile("", path), path)
            else:
                left.kinds[path.suffix.lower() or "without ending"] += 1


def _in_zip(archive: Path, folder: str, left: LeftFiles) -> Iterator[_Found]:
    stores: set[PurePosixPath] = set()
    for name in zip_members(archive):
        path = member_path(name)
        if name.endswith("/") or (folder and not path.is_relative_to(folder)):
            continue
        # As of a folder: the one that was named is looked into, whatever its name.
        below = path.relative_to(folder).parts if folder else path.parts
        # One that leads outside is named when it is read.
        hidden = any(part.startswith(".") and part != ".." for part in below)
        if hidden or set(below[:-1]) & set(_NOT_IMAGES):
            continue
        if stored := next((part for part in path.parents if part.suffix.lower() == ZARR_SUFFIX), None):
            stores.add(stored)
        elif path.suffix.lower() in SUFFIXES:
            yield _found(ImageFile("", archive, name), path)
        elif can_read(path.suffix.lower()):
            left.packed[path.suffix.lower()] += 1
        else:
            left.kinds[path.suffix.lower() or "without ending"] += 1
    if stores:
        left.packed[ZARR_SUFFIX] += len(stores)


def _without_parts(files: Sequence[_Found], left: LeftFiles) -> list[_Found]:
    """Of the files of one OME image that are all there, the first; those that were named themselves stay."""
    taken: set[str] = set()
    kept = []
    for one in files:
        path = one.file.path
        if one.file.member is None and path.name.lower().endswith(_OME_TIFF):
            if not one.named and os.path.realpath(path) in taken:
                left.parts += 1
                continue
            taken.update(os.path.realpath(part) for part in _parts(path))
        kept.append(one)
    return kept


def _parts(path: Path) -> list[Path]:
    """The files of the OME image that a file is part of; empty if some are missing."""
    try:
        check_file(path, str(path))
        with tifffile.TiffFile(path, _multifile=False) as file:
            names = ome_file_names(file, path.name)
    except Exception:  # of whatever kind: reading it says what is wrong with it
        return []
    parts = [path.parent / name for name in sorted(names)]
    return parts if len(parts) > 1 and path in parts and all(part.is_file() for part in parts) else []


def _each_plane(files: Sequence[ImageFile]) -> Iterator[ImageFile]:
    """Files, one for each image and plane where all are asked for."""
    for file in files:
        images = _along(file, IMAGE, _count_images(file)) if file.choice.planes.get(IMAGE) == ALL else [file]
        for image in images:
            some = [image]
            axes = [axis for axis, wanted in file.choice.planes.items() if wanted == ALL and axis != IMAGE]
            if axes:
                try:
                    sizes = image.planes()
                except InputError:
                    sizes = {}  # reading it says what is wrong with it
                for axis in axes:
                    some = [one for some_file in some for one in _along(some_file, axis, sizes.get(axis, 1))]
            yield from some


def _count_images(file: ImageFile) -> int:
    try:
        return file.images()
    except InputError:
        return 1  # reading it says what is wrong with it


def _along(file: ImageFile, axis: str, count: int) -> Iterator[ImageFile]:
    if count == 1:
        yield file
        return
    for index in range(count):
        choice = replace(file.choice, planes={**file.choice.planes, axis: str(index)})
        yield replace(file, id=f"{file.id}_{axis}{index:0{len(str(count - 1))}d}", choice=choice)
