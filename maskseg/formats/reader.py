"""What a reader of annotations gives: items, one an image, each read when it is asked for.

See `maskseg.formats.registry` for how a format announces its reader.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from maskseg.core.errors import InputError, located
from maskseg.core.masks import CropMasks
from maskseg.imaging.reading import ImageFile

Shape = tuple[int, int]


class LeftOut(NamedTuple):
    """A file, folder or annotation that was not read: where it is, what its fault is, and what to do about it.

    A `kind` that begins with "empty" or "duplicate" changes no label image; of any other, the image is not evaluated.
    `annotation_count` is how many annotations a reader lost with it, where it yields it in place of an item.
    """

    file: str
    kind: str
    reason: str
    annotation_count: int = 0


class Selection(NamedTuple):
    """Which annotations a reader takes, where it was told to take some: ``"of the categories taken (of 30)"``."""

    which: str


class Classes(NamedTuple):
    """The classes that a source has masks of, in its own order: so they are numbered."""

    names: tuple[str, ...]


class Note(NamedTuple):
    """What a reader did that a person should know of, and that is no fault: said once for the whole source.

    `ids` are images that the source has, and that do not count.
    """

    text: str
    ids: frozenset[str] = frozenset()


@dataclass
class Nuclei:
    """The nuclei of one image, as they were read.

    Attributes
    ----------
    masks : CropMasks
        None of them empty.
    classes : list of str or None
        Name of the class of each mask, where the format has classes.
    left_out : list of LeftOut
        Annotations of the image that are no nucleus or are at fault.
    fields : dict
        What else the file says of the image; see `Item`.
    notes : list of str
        What was done with the image that a person should know of: said once for all images of which it is true.
    """

    masks: CropMasks
    classes: list[str] | None = None
    left_out: list[LeftOut] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def class_names(self) -> list[str]:
        """Name of the class of each mask, "" where the format has no classes."""
        return [""] * len(self.masks) if self.classes is None else self.classes

    @property
    def annotation_count(self) -> int:
        """How many annotations the image has."""
        return len(self.masks) + len(self.left_out)


@dataclass(frozen=True)
class Item:
    """The annotations of one image, still to be read.

    An item may go to another process: it holds names and text rather than pixels, and functions that can be pickled.

    Attributes
    ----------
    image_id : str or None
        Name of the image without folder and ending; None where `load` will say what is wrong.
    load : function (shape or None) -> Nuclei
        A function at the top level of a module, or a `functools.partial` of one. `shape` is the height and width of
        the image where they are known, from the image or else from the item. An InputError leaves the image out.
    where : str
        What messages call it: the path of the file, and the place in it.
    shape : (int, int) or None
        Height and width of the image, where the annotations say them.
    image : ImageFile or None
        The image, where the format says which one it is. Otherwise it is found by `image_id`.
    within : ImageFile or None
        The image as the file of annotations holds it: perhaps in fewer bits, so a file of the image goes before it.
    file_name : str
        Name that the image has in a data set; where not given, that of `image`.
    annotation_count : int
        How many annotations are lost if the image cannot be read, as far as that is known.
    fields : dict
        What else is known of the image: ``modality``, ``microns_per_pixel`` and what a COCO record has besides.
    needs_shape : bool
        `load` cannot do without the height and width of the image.
    scored : bool
        The masks have scores: they are predictions.
    """

    image_id: str | None
    load: Callable[[Shape | None], Nuclei]
    where: str
    shape: Shape | None = None
    image: ImageFile | None = None
    within: ImageFile | None = None
    file_name: str = ""
    annotation_count: int = 0
    fields: Mapping[str, Any] = field(default_factory=dict)
    needs_shape: bool = False
    scored: bool = False

    def read(self, shape: Shape | None = None) -> Nuclei:
        """The nuclei; `shape` is the height and width of the image, needed where the format does not store them.

        Raises
        ------
        InputError
            If they cannot be read, or not without the size of the image.
        """
        try:
            return self.load(shape or self.shape)
        except InputError as error:
            raise InputError(located(self.where, error)) from error


def unreadable_item(where: str, reason: str, image_id: str | None = None, annotation_count: int = 0) -> Item:
    """An item of which nothing can be read; `reason` says why, and what to do about it."""
    return Item(image_id, _Unreadable(reason), where, annotation_count=annotation_count)


@dataclass(frozen=True)
class _Unreadable:
    reason: str

    def __call__(self, shape: Shape | None) -> Nuclei:
        raise InputError(self.reason)


def known_shape(shape: Shape | None, where: str) -> Shape:
    """The height and width of the image, for a format that does not store them.

    Raises
    ------
    InputError
        If they are not known.
    """
    if shape is None:
        raise InputError(f"{where}: the size of its image is not known; give the folder of the images with --images")
    return shape
