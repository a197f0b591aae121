"""What all converters share: images read over processes, written as they come, and accounted for one by one.

A converter lists the images of its source and gives a function that reads one. Everything else is
done here: the processes, the files, the numbering, and what is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from maskseg.core.errors import InputError, located, or_reason
from maskseg.core.files import sync_tree, write_whole
from maskseg.core.locks import alone_and_swept
from maskseg.core.processes import in_order
from maskseg.formats.classes import Categories, ClassRule
from maskseg.formats.coco import ANNOTATIONS, CocoFile, encoded, renumbered
from maskseg.formats.reader import LeftOut


class PendingImage(NamedTuple):
    """An image of the source, still to be read.

    Attributes
    ----------
    where : str
        What messages call it.
    source : object
        What `read` is called with; it goes to another process, so it holds names rather than pixels.
    id : str or None
        Name of the image, or the common start of the names of its pieces; None where `read` will say what is wrong.
    annotation_count : int
        How many annotations are lost if it cannot be read, as far as that is known.
    """

    where: str
    source: Any
    id: str | None = None
    annotation_count: int = 0


@dataclass
class Summary:
    """What a conversion did.

    Attributes
    ----------
    unit : str
        What the source holds, in the plural: "mask files", "labels", "regions".
    images, masks : int
        Written.
    annotation_count : int
        How many of `unit` the source holds: those written, those in `left_out`, and those of images left out.
    left_out : list of LeftOut
        Every image, folder and annotation that was not written.
    rows : list of dict
        What the converter says of each annotation, where it does.
    notes : Counter of str
        What was done that a person should know of, and with how many images; 0 for the source as a whole.
    category : (str, str)
        What a mask shows, one and several of them.
    classes : list of str
        Names of the classes by their numbers; before the conversion those that the source names, in their order.
    """

    unit: str
    images: int = 0
    masks: int = 0
    annotation_count: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    category: tuple[str, str] = ("nucleus", "nuclei")
    classes: list[str] = field(default_factory=list)

    def leave_out(self, image: PendingImage, reason: str) -> None:
        """Note that an image is left out, with all that it holds."""
        lost = f" ({image.annotation_count} {self.unit} left out with it)" if image.annotation_count else ""
        self.left_out.append(LeftOut(image.where, "image left out", f"{reason}{lost}"))
        self.annotation_count += image.annotation_count

    def __str__(self) -> str:
        kinds_of = f" in {len(self.classes)} classes ({', '.join(self.classes)})" if len(self.classes) > 1 else ""
        written = f"{self.images} images with {self.masks} {self.category[1]}{kinds_of}"
        kinds = Counter(item.kind for item in self.left_out)
        left_out = "".join(f"; {count} x {kind}" for kind, count in kinds.items())
        return f"{written}, from {self.annotation_count} {self.unit}{left_out}"


@dataclass
class ConvertedImage:
    """An image for the data set.

    Attributes
    ----------
    file_name : str
        Below ``images/``.
    data : bytes or None
        Content of the file; None if there is no image to copy.
    shape : (int, int)
        Height and width.
    annotations : list of dict
        As `annotation` makes them.
    fields : dict
        Further fields of the image record.
    classes : sequence of str
        Names of the categories of the annotations, which are numbered from 1; "" for none.
    """

    file_name: str
    data: bytes | None
    shape: tuple[int, int]
    annotations: list[dict[str, Any]]
    fields: dict[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ("",)


@dataclass
class Converted:
    """What `read` makes of an image: images for the data set, its annotations counted, those left out, rows and notes.

    `seen` are the names of classes as the source has them, before they were changed by a rule.
    """

    images: list[ConvertedImage]
    annotation_count: int
    left_out: list[LeftOut] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: frozenset[str] = frozenset()


def convert_images(
    images: Sequence[PendingImage],
    read: Callable[[Any], Converted],
    out: Path,
    summary: Summary,
    *,
    expected: str,
    modalities: Mapping[str, str] | None = None,
    workers: int = 1,
    progress: bool = True,
    rule: ClassRule | None = None,
) -> Summary:
    """Convert the images of a source; the files are the same, byte for byte, whatever the number of processes.

    Parameters
    ----------
    images : sequence of PendingImage
        In the order in which they are written. Of two with the same id the first is kept.
    read : function (PendingImage.source) -> Converted
        Defined at the top of its module, or a `functools.partial` of such. An InputError leaves its image out.
    out : Path
        Gets ``images/`` and, when all is done, ``annotations.json``.
    summary : Summary
        Is filled; may hold faults already.
    expected : str
        The source and what it should have been, for the message that there is nothing in it.
    modalities : mapping of image id to str, optional
        Put into the image records.
    workers : int
        Processes. With more than one, a script must be guarded by ``if __name__ == "__main__"``.
    progress : bool
        Show a bar on a terminal.
    rule : ClassRule, optional
        By which `read` changed the names of classes: refused if it was about none of them.

    Returns
    -------
    Summary
        The one given.

    Raises
    ------
    InputError
        If no image can be converted or a process was killed.
    """
    wanted = without_repeated_ids(images, summary)
    work = partial(_work, read, out / "images")
    if not wanted:
        raise InputError(_nothing(summary, expected))
    known, seen = Categories(summary.classes, summary.category[0]), set[str]()
    with (
        alone_and_swept(out),
        closing(in_order(work, wanted, workers)) as done,
        # Annotations go to the file as they come, so that memory does not grow with their number.
        CocoFile(out / ANNOTATIONS) as file,
    ):
        bar = tqdm(done, "convert", len(wanted), unit="image", disable=None if progress else True)
        for image, outcome in zip(wanted, bar, strict=True):
            if isinstance(outcome, str):
                summary.leave_out(image, outcome)
                continue
            summary.annotation_count += outcome.annotation_count
            summary.left_out += outcome.left_out
            summary.rows += outcome.rows
            summary.notes.update(outcome.notes)
            seen |= outcome.seen
            for record, bodies, classes in outcome.images:
                bodies = renumbered(bodies, [known.number(name) for name in classes] if bodies else [])
                modality = (modalities or {}).get(Path(record["file_name"]).stem)
                file.add({**record, "modality": modality} if modality else record, bodies)
        if not file.images:
            raise InputError(_nothing(summary, expected))
        if rule:
            rule.check(seen)
        file.names = summary.classes = known.names
        sync_tree(out / "images")
    summary.images, summary.masks = len(file.images), file.count
    return summary


def _nothing(summary: Summary, expected: str) -> str:
    first = f" ({located(summary.left_out[0].file, summary.left_out[0].reason)})" if summary.left_out else ""
    return f"no image to convert{first}; expected {expected}"


def without_repeated_ids(images: Sequence[PendingImage], summary: Summary) -> list[PendingImage]:
    """Leave out images whose id another one has. Ids that differ in case only would be one file on some disks."""
    taken: dict[str, PendingImage] = {}
    kept = []
    for image in images:
        first = image if image.id is None else taken.setdefault(image.id.lower(), image)
        if first is image:
            kept.append(image)
        else:
            summary.leave_out(image, f"the id of {first.where} once more; rename one of the images")
    return kept


class _EncodedImages(NamedTuple):
    """A result as it comes back: image records without id, the texts of their annotations, their classes."""

    images: list[tuple[dict[str, Any], list[str], Sequence[str]]]
    annotation_count: int
    left_out: list[LeftOut]
    rows: list[dict[str, str]]
    notes: list[str]
    seen: frozenset[str]


def _work(read: Callable[[Any], Converted], folder: Path, pending: PendingImage) -> _EncodedImages | str:
    """Read one image and write its files; a text says why not."""
    return or_reason(partial(_write, read, folder, pending.source))


def _write(read: Callable[[Any], Converted], folder: Path, source: Any) -> _EncodedImages:
    result = read(source)
    images = []
    for image in result.images:
        if image.data is not None:
            # Not synced one by one: that takes longer than all the rest, and annotations.json makes them valid.
            with write_whole(folder / image.file_name, sync=False) as file:
                file.write(image.data)
        height, width = image.shape
        record = {"file_name": image.file_name, "height": height, "width": width, **image.fields}
        images.append((record, encoded(image.annotations), image.classes))
    return _EncodedImages(images, result.annotation_count, result.left_out, result.rows, result.notes, result.seen)
