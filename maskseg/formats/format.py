"""What a format says of itself; see `maskseg.formats.registry`."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskseg.core.optional import need

# Stands for the name of the image.
_ID = "{id}"


@dataclass(frozen=True)
class Format:
    """A form in which nuclei are stored.

    Attributes
    ----------
    name : str
        The word on the command line.
    about : str
        What it is, in a few words, for help texts: ``"label images"``.
    files : tuple of str
        What ``predict`` writes, below its folder: ``"labels/{id}.tif"``, or without ``{id}`` one file for all images.
    exported : tuple of str
        The same for ``export``; where not given, the names in `files` without their folder.
    images : str
        Folder into which ``export`` copies the image, ``"images"``; empty where images are no part of the format.
    writer : subclass of Writer, or "module:attribute"
    join : function (paths, images), or "module:attribute"
        Writes the file of all images; see the module.
    record : str
        Name under which the record of an image is kept until it is joined; formats that share it share their writer.
    pixels : bool
        The writer needs `ImageInfo.source`.
    default : bool
        ``predict`` writes it where no formats are named.
    reader : function (source, **options), or "module:attribute"
    recognises : function (source) -> bool, or "module:attribute"
    layout : str
        What the reader expects, for messages: ``"images/STEM.png with masks/STEM.tif"``.
    unit : str
        What it holds, in the plural: ``"label images"``, ``"regions"``.
    suffixes : tuple of str
        Endings of its files, by which a file that no format recognises is refused with the words of this one.
    lost : str
        What a nucleus loses in it, for the table of formats: ``"holes; pieces become nuclei"``. Empty if nothing.
    package, extra : str
        What it needs beyond maskseg's own requirements: a Python package, and the extra that installs it.
    """

    name: str
    about: str
    files: tuple[str, ...] = ()
    exported: tuple[str, ...] = ()
    images: str = ""
    writer: Any = None
    join: Any = None
    record: str = ""
    pixels: bool = False
    default: bool = False
    reader: Any = None
    recognises: Any = None
    layout: str = ""
    unit: str = "annotations"
    suffixes: tuple[str, ...] = ()
    lost: str = ""
    package: str = ""
    extra: str = ""

    @property
    def key(self) -> str:
        """Name under which the record of an image is kept."""
        return self.record or self.name

    @property
    def joined(self) -> bool:
        """Whether it is one file for all images."""
        return self.join is not None

    @property
    def written(self) -> str:
        """What ``predict`` writes, for help texts: ``labels/STEM.tif``."""
        return " and ".join(name.replace(_ID, "STEM") for name in self.files)

    def imported(self, name: str) -> Any:
        """Its ``writer``, ``join``, ``reader`` or ``recognises``, imported."""
        part = getattr(self, name)
        if isinstance(part, str):
            module, attribute = part.split(":")
            part = getattr(importlib.import_module(module), attribute)
        return part

    def image_paths(self, out: Path, image_id: str, export: bool = False) -> list[Path]:
        """The files of an image, below a folder."""
        return [out / name.replace(_ID, image_id) for name in self._names(export) if _ID in name]

    def joined_paths(self, out: Path, export: bool = False) -> list[Path]:
        """The files of all images together, below a folder."""
        return [out / name for name in self._names(export) if _ID not in name]

    def _names(self, export: bool) -> tuple[str, ...]:
        return (self.exported or tuple(Path(name).name for name in self.files)) if export else self.files

    def require(self, what: str) -> None:
        """Refuse, in one line that begins with `what`, if the package that it needs is not installed."""
        if self.package:
            need(self.package, self.extra, what)
