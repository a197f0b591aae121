"""What the server works on: the images, their corrections, the models; all of it in one folder."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import RLock
from typing import Any

from maskseg.core.errors import InputError
from maskseg.core.json_files import read_json, write_json
from maskseg.core.locks import alone_in, sweep
from maskseg.imaging.channels import Choice
from maskseg.imaging.containers import BIOIO_SUFFIXES, SLIDE_SUFFIXES, SUFFIXES, can_read
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile, leads_outside
from maskseg.serve.classes import Classes
from maskseg.serve.log import parse
from maskseg.serve.pictures import Picture
from maskseg.serve.session import LOG, Session

# Of dropped files; slides in several files and Zarr folders are opened from the command line.
DROPPED = (
    *SUFFIXES,
    *(suffix for suffix in SLIDE_SUFFIXES if suffix not in (".mrxs", ".vms", ".vmu")),
    *filter(can_read, BIOIO_SUFFIXES),
)
# Pictures that are held open.
_OPEN = 6


def read_settings(path: Path) -> dict[str, Any]:
    """The object in a JSON file of ours; empty where there is no file.

    Raises
    ------
    InputError
        If it is damaged.
    """
    settings = read_json(path, "move it away") if path.is_file() else {}
    if not isinstance(settings, dict):
        raise InputError(f"{path}: damaged (no JSON object); move it away")
    return settings


class NotFound(InputError):
    """There is no such image, job or file."""


@dataclass
class Item:
    """An image of the page.

    Attributes
    ----------
    key : str
        Its name in addresses.
    file : ImageFile
    fault : str
        Why it cannot be shown; empty where it can.
    """

    key: str
    file: ImageFile
    fault: str = ""


class Workspace:
    """The images, corrections and models of one server.

    Parameters
    ----------
    folder : Path
        Made where it is missing; one server at a time may use it.
    images : sequence of str
        What `find_images` takes.
    model : str
        The model to begin with; one that was kept after a retraining goes before it.
    choice : Choice, optional
        Which channel and plane of images that have several, dropped ones too.

    Raises
    ------
    InputError
        If there are no such images or another server uses the folder.
    """

    def __init__(
        self, folder: Path, images: Iterable[str] = (), model: str = "nuclei", choice: Choice | None = None
    ) -> None:
        self.folder, self._choice = folder.resolve(), choice or Choice()
        self.lock = RLock()
        self._held = ExitStack()
        self._held.enter_context(alone_in(self.folder))
        # What a server that was killed was just writing.
        sweep(self.folder)
        self._items: dict[str, Item] = {}
        self.classes = Classes(self.folder / "classes.json")
        self._pictures: OrderedDict[str, Picture] = OrderedDict()
        self._sessions: dict[str, Session] = {}
        self.uploads = self.folder / "uploads"
        named = list(images)
        # Of each input that is missing or holds no image a line, where there are others.
        self.left_out: list[str] = []
        for file in find_images(named, choice, self.folder, bad=self.left_out) if named else []:
            self.add(file)
        if self.uploads.is_dir():
            for path in sorted(self.uploads.rglob("*")):
                if path.is_file() and path.suffix.lower() in DROPPED and not path.name.startswith("."):
                    for file in self.files_of(path):
                        self.add(file)
        self._models = self.folder / "models.json"
        kept = read_settings(self._models)
        self.models: list[str] = list(dict.fromkeys([model, *kept.get("models", [])]))
        self.model: str = kept.get("model", model)

    def close(self) -> None:
        """Let go of the files and the folder."""
        for session in self._sessions.values():
            session.close()
        self._held.close()

    # ---- images ----

    def add(self, file: ImageFile) -> Item:
        """Make an image known to the page."""
        name = f"{file.path.resolve()}\n{file.member or ''}"
        if file.choice.channel is not None or file.choice.planes:
            # Each plane, and each channel, has nuclei of its own.
            name += f"\n{file.choice.channel}\n{sorted(file.choice.planes.items())}"
        key = hashlib.blake2s(name.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
        with self.lock:
            return self._items.setdefault(key, Item(key, file))

    def files_of(self, path: Path) -> list[ImageFile]:
        """The images in a dropped file: one, or where all planes were asked for, each of them."""
        return find_images([path], self._choice)

    def place_for(self, name: str) -> Path:
        """Where a dropped file goes; a second one of the same name gets a number.

        Raises
        ------
        InputError
            If the name leads elsewhere or is of no image.
        """
        clean = PurePosixPath(name.replace("\\", "/"))
        if not name or leads_outside(name) or re.search(r'[\x00-\x1f<>:"|?*]', name) or len(name) > 300:
            raise InputError(f"{name[:80]!r}: not a name for an image; rename the file")
        if any(part in ("", ".", "..") or part.startswith(".") or len(part) > 150 for part in clean.parts):
            raise InputError(f"{name[:80]!r}: not a name for an image; rename the file")
        if clean.suffix.lower() not in DROPPED:
            raise InputError(f"{clean.name}: no image that can be dropped ({', '.join(DROPPED)})")
        path = self.uploads / clean
        number = 2
        while path.exists():
            path = self.uploads / clean.with_name(f"{clean.stem}-{number}{clean.suffix}")
            number += 1
        return path

    @property
    def items(self) -> list[Item]:
        """All images, those that were named or dropped first before the others."""
        with self.lock:
            return list(self._items.values())

    def item(self, key: str) -> Item:
        """An image by its key.

        Raises
        ------
        NotFound
        """
        with self.lock:
            if key not in self._items:
                raise NotFound("there is no such image")
            return self._items[key]

    def picture(self, key: str) -> Picture:
        """An image, opened; of the last few the files stay open.

        Raises
        ------
        InputError
            If it cannot be read.
        """
        item = self.item(key)
        with self.lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        try:
            picture = Picture(item.file)
            item.fault = ""
        except InputError as error:
            item.fault = str(error)
            raise
        with self.lock:
            self._pictures[key] = picture
            while len(self._pictures) > _OPEN:
                self._pictures.popitem(last=False)
        return picture

    def session(self, key: str) -> Session:
        """The corrections of an image.

        Raises
        ------
        InputError
            If the image or its log cannot be read.
        """
        item = self.item(key)
        with self.lock:
            if key in self._sessions:
                return self._sessions[key]
            folder = self._folder_of(item)
        shape = self.picture(key).shape
        with self.lock:
            if key not in self._sessions:
                self._open_session(key, folder, shape)
            return self._sessions[key]

    def known_session(self, key: str) -> Session | None:
        """The corrections of an image that has any, without its file being opened."""
        with self.lock:
            folder = self._folder_of(self.item(key))
            if key not in self._sessions and (folder / LOG).is_file():
                operations, _ = parse((folder / LOG).read_bytes())
                if len(operations) > 1:
                    self._open_session(key, folder, tuple(operations[0]["shape"]))
            return self._sessions.get(key)

    def _open_session(self, key: str, folder: Path, shape: tuple[int, int]) -> None:
        session = Session(folder, shape)
        # Of an older maskseg, or where the list of classes is gone.
        self.classes.learn({kind: session.class_names.get(kind, f"class {kind}") for kind in session.kinds()})
        self._sessions[key] = session

    def of_class(self, kind: int) -> int:
        """How many nuclei of all images are of a class."""
        count = 0
        for item in self.items:
            session = self.known_session(item.key)
            if session is not None:
                with session.lock:
                    count += sum(nucleus.kind == kind for nucleus in session.nuclei)
        return count

    def _folder_of(self, item: Item) -> Path:
        return self.folder / "images" / item.key

    def describe(self, key: str) -> dict[str, Any]:
        """What the list of images shows of one."""
        item = self.item(key)
        row: dict[str, Any] = {
            "key": key,
            "name": item.file.id,
            "path": item.file.name,
            "fault": item.fault,
            "predicted": False,
            "nuclei": 0,
            "reviewed": False,
            "doubt": None,
        }
        try:
            session = self.known_session(key)
        except InputError as error:
            row["fault"] = str(error)
            return row
        if session is not None:
            with session.lock:
                row |= {
                    "predicted": session.version > 0,
                    "nuclei": len(session.nuclei),
                    "reviewed": bool(session.reviewed),
                    "doubt": session.doubt(),
                }
        return row

    # ---- models ----

    def use(self, model: str) -> None:
        """Make a model the one that predicts; a new name is kept in the list.

        Raises
        ------
        InputError
            If the list cannot be written.
        """
        with self.lock:
            models = list(dict.fromkeys([*self.models, model]))
            write_json(self._models, {"model": model, "models": models})
            self.model, self.models = model, models
