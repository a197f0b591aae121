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
from typing import TYPE_CHECKING, Any

from maskseg.core.errors import InputError
from maskseg.core.optional import need

if TYPE_CHECKING:
    from maskseg.formats.writer import ImageInfo, Writer

GROUP = "maskseg.formats"
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

    def part(self, name: str) -> Any:
        """Its ``writer``, ``join``, ``reader`` or ``recognises``, imported."""
        found = getattr(self, name)
        if isinstance(found, str):
            module, attribute = found.split(":")
            found = getattr(importlib.import_module(module), attribute)
        return found

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
    found: dict[str, Writer] = {}
    for item in chosen:
        if item.key not in found:
            found[item.key] = item.part("writer")(image, *item.image_paths(out, image.image_id, export))
    return found


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
        if item.recognises is not None and item.part("recognises")(source):
            return item
    for item in known:
        if source.is_file() and source.name.lower().endswith(item.suffixes or ("/",)):
            return item
    if source.is_file():
        raise InputError(f"{source}: give a folder, or a file of a format that is read: {', '.join(readable())}")
    raise InputError(
        f"{source}: holds neither annotations.json nor label images, nor another format that is read: "
        f"{', '.join(readable())}"
    )


def describe(names: Sequence[str], show: Callable[[Format], str] | None = None) -> str:
    """Formats for a help text: ``name (about)``, or ``name (show(format))``, comma separated."""
    return ", ".join(f"{name} ({(show or _about)(formats()[name])})" for name in names)


def _about(item: Format) -> str:
    return item.about


# Maskseg's own, in the order in which a source is recognised and help texts list them.
_HERE = "maskseg.formats"
_BUILT_IN = [
    Format(
        "rle",
        "Kaggle's run lengths",
        files=("submission.csv",),
        writer=f"{_HERE}.kaggle:nuclei_writer",
        join=f"{_HERE}.kaggle:join_nuclei",
        default=True,
        reader=f"{_HERE}.kaggle_reader:read",
        recognises=f"{_HERE}.kaggle_reader:recognises",
        layout="a CSV file ImageId,EncodedPixels",
        unit="masks",
        suffixes=(".csv",),
    ),
    Format(
        "coco",
        "COCO JSON with run lengths and scores",
        files=("predictions.json",),
        exported=("annotations.json",),
        images="images",
        writer=f"{_HERE}.coco:CocoWriter",
        join=f"{_HERE}.coco:join_coco",
        default=True,
        reader=f"{_HERE}.coco_reader:read",
        recognises=f"{_HERE}.coco_reader:recognises",
        layout="a COCO JSON file and its images",
        suffixes=(".json", ".json.gz"),
    ),
    Format(
        "table",
        "a row an image, and a row a nucleus with place, size, shape and intensity",
        files=("images.csv", "nuclei.csv"),
        writer=f"{_HERE}.nuclei_table:TableWriter",
        join=f"{_HERE}.nuclei_table:join_tables",
        record="nuclei",
        pixels=True,
        default=True,
    ),
    Format(
        "parquet",
        "the table of nuclei",
        files=("nuclei.parquet",),
        writer=f"{_HERE}.nuclei_table:TableWriter",
        join=f"{_HERE}.nuclei_table:join_parquet",
        record="nuclei",
        pixels=True,
        package="pyarrow",
        extra="parquet",
    ),
    Format(
        "labels",
        "label images",
        files=("labels/{id}.tif",),
        exported=("masks/{id}.tif",),
        images="images",
        writer=f"{_HERE}.labels:LabelWriter",
        default=True,
        reader=f"{_HERE}.labels_reader:read",
        recognises=f"{_HERE}.labels_reader:recognises",
        layout="images/STEM.png with masks/STEM.tif, or STEM.png with STEM_masks.tif,",
        unit="labels",
    ),
    Format(
        "zarr",
        "label images in OME-Zarr",
        files=("zarr/{id}.zarr",),
        writer=f"{_HERE}.ome_zarr:ZarrWriter",
        package="zarr",
        extra="slides",
    ),
    Format(
        "folders",
        "DSB 2018 folders, a PNG a nucleus",
        exported=("{id}/masks",),
        images="{id}/images",
        writer=f"{_HERE}.mask_folders:FolderWriter",
        reader=f"{_HERE}.mask_folders:read",
        recognises=f"{_HERE}.mask_folders:recognises",
        layout="ID/images/ID.png and ID/masks/*.png",
        unit="mask files",
    ),
    Format(
        "xml",
        "outlines for Aperio ImageScope",
        files=("xml/{id}.xml",),
        writer=f"{_HERE}.aperio_xml:AperioWriter",
        reader=f"{_HERE}.aperio_xml:read",
        recognises=f"{_HERE}.aperio_xml:recognises",
        layout="ID.xml and an image for each",
        unit="regions",
    ),
    Format(
        "geojson",
        "outlines for QuPath",
        files=("geojson/{id}.geojson",),
        writer=f"{_HERE}.geojson:GeoJsonFiles",
        reader=f"{_HERE}.geojson_reader:read",
        recognises=f"{_HERE}.geojson_reader:recognises",
        layout="ID.geojson and an image for each",
        unit="outlines",
    ),
    Format(
        "imagej",
        "ROI zip for ImageJ",
        files=("imagej/{id}.zip",),
        writer=f"{_HERE}.imagej:ImageJWriter",
        reader=f"{_HERE}.imagej_reader:read",
        recognises=f"{_HERE}.imagej_reader:recognises",
        layout="ID.zip or ID/*.roi and an image for each",
        unit="regions",
    ),
    Format(
        "labelme",
        "labelme's JSON",
        files=("labelme/{id}.json",),
        writer=f"{_HERE}.labelme:LabelmeWriter",
        reader=f"{_HERE}.labelme:read",
        recognises=f"{_HERE}.labelme:recognises",
        layout="ID.json and an image for each",
        unit="shapes",
    ),
    Format("svg", "outlines for figures", files=("svg/{id}.svg",), writer=f"{_HERE}.svg:SvgWriter"),
    Format(
        "overlay",
        "pictures with the outlines",
        files=("overlays/{id}.png",),
        writer=f"{_HERE}.overlay:OverlayWriter",
        pixels=True,
        default=True,
    ),
]

for _format in _BUILT_IN:
    register(_format)
