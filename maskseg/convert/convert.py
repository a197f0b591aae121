"""What all converters share: images read over processes, written as they come, and accounted for one by one.

A converter lists its tasks, one for each image of the source, and gives a function that reads one. Everything else is
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

from maskseg.core.errors import InputError, OutputError, unexpected
from maskseg.core.files import sync_tree, write_whole
from maskseg.core.locks import alone_and_swept
from maskseg.core.processes import in_order
from maskseg.formats.classes import Categories, ClassRule
from maskseg.formats.coco import ANNOTATIONS, CocoFile, encoded, renumbered
from maskseg.formats.reader import LeftOut


class Task(NamedTuple):
    """An image of the source, still to be read.

    Attributes
    ----------
    where : str
        What messages call it.
    source : object
        What `read` is called with; it goes to another process, so it holds names rather than pixels.
    id : str or None
        Name of the image, or the common start of the names of its pieces; None where `read` will say what is wrong.
    found : int
        How many annotations are lost if it cannot be read, as far as that is known.
    """

    where: str
    source: Any
    id: str | None = None
    found: int = 0


@dataclass
class Summary:
    """What a conversion did.

    Attributes
    ----------
    unit : str
        What the source holds, in the plural: "mask files", "labels", "regions".
    images, masks : int
        Written.
    found : int
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
    found: int = 0
    left_out: list[LeftOut] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    category: tuple[str, str] = ("nucleus", "nuclei")
    classes: list[str] = field(default_factory=list)

    def lose(self, task: Task, reason: str) -> None:
        """Note that an image is left out, with all that it holds."""
        lost = f" ({task.found} {self.unit} left out with it)" if task.found else ""
        self.left_out.append(LeftOut(task.where, "image left out", f"{reason}{lost}"))
        self.found += task.found

    def __str__(self) -> str:
        kinds_of = f" in {len(self.classes)} classes ({', '.join(self.classes)})" if len(self.classes) > 1 else ""
        text = f"{self.images} images with {self.masks} {self.category[1]}{kinds_of}, from {self.found} {self.unit}"
        kinds = Counter(item.kind for item in self.left_out)
        return text + "".join(f"; {count} x {kind}" for kind, count in kinds.items())


@dataclass
class Picture:
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
class Result:
    """What `read` makes of a task: its pictures, how many annotations it held, those left out, rows and notes.

    `seen` are the names of classes as the source has them, before they were changed by a rule.
    """

    pictures: list[Picture]
    found: int
    left_out: list[LeftOut] = field(default_factory=list)
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seen: frozenset[str] = frozenset()


def run(
    tasks: Sequence[Task],
    read: Callable[[Any], Result],
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
    tasks : sequence of Task
        In the order in which they are written. Of two with the same id the first is kept.
    read : function (Task.source) -> Result
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
    wanted = without_second(tasks, summary)
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
        for task, outcome in zip(wanted, bar, strict=True):
            if isinstance(outcome, str):
                summary.lose(task, outcome)
                continue
            summary.found += outcome.found
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
    first = f" ({summary.left_out[0].file}: {summary.left_out[0].reason})" if summary.left_out else ""
    return f"no image to convert{first}; expected {expected}"


def without_second(tasks: Sequence[Task], summary: Summary) -> list[Task]:
    """Leave out tasks whose id is taken. Ids that differ in case only would be one file on some disks."""
    taken: dict[str, Task] = {}
    kept = []
    for task in tasks:
        first = task if task.id is None else taken.setdefault(task.id.lower(), task)
        if first is task:
            kept.append(task)
        else:
            summary.lose(task, f"the id of {first.where} once more; rename one of the images")
    return kept


class _Done(NamedTuple):
    """A result as it comes back: image records without id, the texts of their annotations, their classes."""

    images: list[tuple[dict[str, Any], list[str], Sequence[str]]]
    found: int
    left_out: list[LeftOut]
    rows: list[dict[str, str]]
    notes: list[str]
    seen: frozenset[str]


def _work(read: Callable[[Any], Result], folder: Path, task: Task) -> _Done | str:
    """Read one task and write its image files; a text says why not."""
    try:
        result = read(task.source)
        images = []
        for picture in result.pictures:
            if picture.data is not None:
                # Not synced one by one: that takes longer than all the rest, and annotations.json makes them valid.
                with write_whole(folder / picture.file_name, sync=False) as file:
                    file.write(picture.data)
            height, width = picture.shape
            record = {"file_name": picture.file_name, "height": height, "width": width, **picture.fields}
            images.append((record, encoded(picture.annotations), picture.classes))
        return _Done(images, result.found, result.left_out, result.rows, result.notes, result.seen)
    except OutputError:
        raise
    except InputError as error:
        return str(error)
    except Exception as error:  # of one image, whatever it is: the others are converted
        return unexpected(error)
