"""All formats of nuclei: what reads them, what writes them, and what help texts say of them.

``maskseg predict --formats``, ``export --to``, ``convert`` and ``evaluate`` take their lists from here and know no
format by its name. A format is one module with its reader, its writer or both, and one `Format` that announces it:
a line in `_BUILT_IN`, or, from another package, a call of `register` or an entry point of the group
``maskseg.formats`` whose value is a `Format`::

    [project.entry-points."maskseg.formats"]
    toy = "toy_format:FORMAT"

Functions and classes are given as themselves, or as ``"module:attribute"``, which is imported when it is used:
a list of formats, as ``--help`` prints it, then costs nothing. ``docs/examples/toy_format.py`` is a whole format.

Readers
-------
A reader is a function ``read(source, **options)`` from the path of a file or folder to an iterable of

- `maskseg.formats.reader.Item`, one an image, in the order in which images are to be written: its ``image_id``, its
  ``load(shape)``, which returns `Nuclei` (``masks``, ``classes`` or None, ``left_out``), ``where`` for messages, and
  what else is known (``shape``, ``image``, ``file_name``, ``found``, ``fields``, ``scored``). Listing is cheap, reading
  is done in ``load``: one image at a time, perhaps in another process, so ``load`` is a `functools.partial` of a
  function at the top level of the module;
- `maskseg.formats.reader.LeftOut`, for a thing that belongs to no image.

``load`` is given the height and width of the image where they are known. A format that stores no size says
``shape = known_shape(shape, where)``. What is wrong with an image is an InputError in ``load`` (or an item made by
`fault`), what is wrong with one annotation a line in ``Nuclei.left_out``; both name the remedy. Masks are never empty.
The source as a whole (no such file, not the format) is an InputError of the reader itself.

``recognises(source)`` says whether a path holds the format: from names and the first bytes alone, never raising. The
first format of the list that recognises a source reads it where none is named; so it must not claim what is another's.

The caller does the rest: ``convert`` finds the image of an item by its ``image_id`` where the item has none, copies it,
numbers the annotations and accounts for what is left out; ``evaluate`` reads the masks alone.

Writers
-------
A writer is a subclass of `maskseg.formats.writer.Writer`, one object an image: ``open``, ``add(masks, settled)`` once
or tile by tile, ``close``, or ``abandon``. Where all nuclei are needed at once, subclass `WholeWriter` and overwrite
``write(masks)``. `Writer.image` (an `ImageInfo`) tells of the image, `Writer.paths` are ``Format.files`` of the image.
Files are written by `maskseg.core.files.write_whole`.

A format of one file for all images has ``files`` without ``{id}`` and a function ``join(paths, images)``: what each
``Writer.close`` returned, JSON in between, comes back in a `Joined` for each image, in order, also for images that were
left out (``reason``).
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from maskseg.core.errors import InputError
from maskseg.core.optional import need

GROUP = "maskseg.formats"


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
    package: str = ""
    extra: str = ""

    @property
    def joined(self) -> bool:
        """Whether it is one file for all images."""
        return self.join is not None

    def part(self, name: str) -> Any:
        """Its ``writer``, ``join``, ``reader`` or ``recognises``, imported."""
        found = getattr(self, name)
        if isinstance(found, str):
            module, attribute = found.split(":")
            found = getattr(importlib.import_module(module), attribute)
        return found

    def paths(self, out: Path, image_id: str = "", export: bool = False) -> list[Path]:
        """The files of an image, or those of all images, below a folder."""
        exported = self.exported or tuple(Path(name).name for name in self.files)
        return [out / name.replace("{id}", image_id) for name in (exported if export else self.files)]

    def require(self, what: str) -> None:
        """Refuse, in one line that begins with `what`, if the package that it needs is not installed."""
        if self.package:
            need(self.package, self.extra, what)


_FORMATS: dict[str, Format] = {}
_loaded = False


def register(new: Format) -> None:
    """Make a format known.

    Raises
    ------
    ValueError
        If its name is taken by another format, or it neither reads nor writes.
    """
    if new.writer is None and new.reader is None:
        raise ValueError(f"the format {new.name!r} has neither a reader nor a writer")
    if _FORMATS.setdefault(new.name, new) != new:
        raise ValueError(f"there is a format {new.name!r} already; choose another name")


def formats() -> dict[str, Format]:
    """All formats by name: maskseg's own first, then those of other packages."""
    global _loaded
    if not _loaded:
        _loaded = True
        for entry in entry_points(group=GROUP):
            # What is wrong with another package must not keep maskseg from working.
            try:
                register(entry.load())
            except Exception as error:
                warnings.warn(f"the format {entry.name} of {entry.value} is left out: {error}", stacklevel=2)
    return dict(_FORMATS)


def get(name: str, option: str, among: Iterable[str]) -> Format:
    """A format by its name.

    Parameters
    ----------
    name, option : str
        The name, and the option that it was given to, for messages.
    among : iterable of str
        Names that the option takes.

    Raises
    ------
    InputError
        If it is none of those.
    """
    known = list(among)
    if name not in known:
        raise InputError(f"{option} {name}: choose from {', '.join(known)}")
    return formats()[name]


def predicted() -> list[str]:
    """Names of the formats that ``predict`` writes."""
    return [name for name, item in formats().items() if item.writer is not None and item.files]


def exported() -> list[str]:
    """Names of the formats that ``export`` writes."""
    return [name for name, item in formats().items() if item.writer is not None]


def readable() -> list[str]:
    """Names of the formats that are read."""
    return [name for name, item in formats().items() if item.reader is not None]


def default_formats() -> list[str]:
    """Names of the formats that ``predict`` writes where none are named."""
    return [name for name in predicted() if formats()[name].default]


def recognise(source: Path) -> Format | None:
    """The first format that recognises a file or folder; None if none does."""
    for item in formats().values():
        if item.recognises is not None and item.part("recognises")(source):
            return item
    return None


def describe(names: Sequence[str], show: Callable[[Format], str] | None = None) -> str:
    """Formats for a help text: ``name (about)``, or ``name (show(format))``, comma separated."""
    return ", ".join(f"{name} ({(show or _about)(formats()[name])})" for name in names)


def _about(item: Format) -> str:
    return item.about


# Maskseg's own, in the order in which a source is recognised and help texts list them.
_BUILT_IN: list[Format] = []

for _format in _BUILT_IN:
    register(_format)
