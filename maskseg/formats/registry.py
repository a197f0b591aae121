"""All formats of nuclei: what reads them, what writes them, and what help texts say of them.

``maskseg predict --formats``, ``export --to``, ``convert`` and ``evaluate`` take their lists from here and know no
format by its name. A format is one module with its reader, its writer or both, and one `Format` that announces it:
an entry in `maskseg.formats.built_in`, or, from another package, a call of `register` or an entry point of the group
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
  what else is known (``shape``, ``image``, ``file_name``, ``annotation_count``, ``fields``, ``scored``;
  ``needs_shape`` where ``load`` cannot do without the size of the image). Listing is cheap, reading is done in
  ``load``: one image at a time, perhaps in another process, so ``load`` is a `functools.partial` of a function at the
  top level of the module;
- `maskseg.formats.reader.LeftOut`, for a thing that belongs to no image.

``load`` is given the height and width of the image where they are known. A format that stores no size says
``shape = known_shape(shape, where)``. What is wrong with an image is an InputError in ``load`` (or an item made by
`unreadable_item`), what is wrong with one annotation a line in ``Nuclei.left_out``; both name the remedy. Masks are
never empty. The source as a whole (no such file, not the format) is an InputError of the reader itself.

``recognises(source)`` says whether a path holds the format: from names and the first bytes alone, never raising. The
first format of the list that recognises a source reads it where none is named; so it must not claim what is another's.

The caller does the rest: ``convert`` finds the image of an item that has none by the end of its ``file_name``, or by
its ``image_id``, copies it, numbers the annotations and accounts for what is left out; ``evaluate`` reads the masks
alone; ``export`` reads what any format reads. So a new reader has its own ``maskseg convert NAME``.

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

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

from maskseg.core.errors import InputError
from maskseg.core.files import refuse_closed, walk
from maskseg.formats.built_in import FORMATS
from maskseg.formats.format import Format as Format

if TYPE_CHECKING:
    from maskseg.formats.writer import ImageInfo, Writer

GROUP = "maskseg.formats"
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


def writers(chosen: Iterable[Format], image: ImageInfo, out: Path, export: bool = False) -> dict[str, Writer]:
    """Writers of the nuclei of an image in some formats, for `write_all`.

    Parameters
    ----------
    chosen : iterable of Format
    image : ImageInfo
    out : Path
        Folder of the results.
    export : bool
        Names of files are those of ``export``.

    Returns
    -------
    dict
        By `Format.key`; formats whose records are the same have one writer.
    """
    by_key: dict[str, Writer] = {}
    for item in chosen:
        if item.key not in by_key:
            by_key[item.key] = item.imported("writer")(image, *item.image_paths(out, image.image_id, export))
    return by_key


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


def recognise(source: Path) -> Format:
    """The first format that recognises a file or folder.

    Raises
    ------
    InputError
        If there is nothing, or none does.
    """
    if not source.exists():
        raise InputError(f"{source}: does not exist")
    known = [item for item in formats().values() if item.reader is not None]
    for item in known:
        if item.recognises is not None and item.imported("recognises")(source):
            return item
    for item in known:
        if source.is_file() and source.name.lower().endswith(item.suffixes or ("/",)):
            return item
    if source.is_file():
        raise InputError(f"{source}: give a folder, or a file of a format that is read: {', '.join(readable())}")
    files = (Path(name) for _, _, names in walk(source, refuse_closed) for name in names)
    endings = Counter(path.suffix.lower() or path.name for path in files)
    there = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(5)) or "nothing"
    raise InputError(
        f"{source}: holds neither annotations.json nor label images, nor another format that is read "
        f"({', '.join(readable())}); there is {there}"
    )


def describe(names: Sequence[str], show: Callable[[Format], str] | None = None) -> str:
    """Formats for a help text: ``name (about)``, or ``name (show(format))``, comma separated."""
    return ", ".join(f"{name} ({(show or _about)(formats()[name])})" for name in names)


def _about(item: Format) -> str:
    return item.about


for _format in FORMATS:
    register(_format)
