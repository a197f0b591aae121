"""The one error that means "the input is wrong", told in one line."""

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import TypeVar

Result = TypeVar("Result")

# A message that begins with the name of a file.
_FILE = re.compile(r"[^(]*?\.\w{1,8}: ")


class InputError(ValueError):
    """Bad input from the user.

    The message is one line that names the file (or key) and the remedy. Commands print it without a traceback
    and exit with status 2; batch functions collect it and go on with the rest.
    """


def without_place(where: str, reason: object) -> str:
    """A reason without the place, or the file of the place, that it begins with.

    Examples
    --------
    >>> without_place("a/x.json: image 3", "a/x.json: no JSON")
    'no JSON'
    """
    text, parts = str(reason), where.split(": ")
    places = [": ".join(parts[:count]) for count in range(len(parts), 0, -1)]
    for place in filter(None, [*places, PurePath(places[-1]).name]):
        if text.startswith(f"{place}: "):
            return text.removeprefix(f"{place}: ")
    return text


def located(where: str, reason: object) -> str:
    """A reason with the place before it, once; as it is where it begins with the name of another file.

    Examples
    --------
    >>> located("a/x.json", "no JSON"), located("a/x.json", "a/x.json: no JSON"), located("a/x.png", "b/x.tif: no TIFF")
    ('a/x.json: no JSON', 'a/x.json: no JSON', 'b/x.tif: no TIFF')
    """
    text = str(reason)
    rest = without_place(where, text)
    return text if not where or (rest == text and (_FILE.match(text) or text.startswith(where))) else f"{where}: {rest}"


def or_reason(work: Callable[[], Result]) -> Result | str:
    """What `work` makes of one image of many, or a text that says why it made nothing.

    Raises
    ------
    OutputError
        That is a matter of all images.
    """
    try:
        return work()
    except OutputError:
        raise
    except InputError as error:
        return str(error)
    except Exception as error:  # of one image, whatever it is: the others are done
        return unexpected(error)


def unexpected(error: Exception) -> str:
    """What is said of an image that was lost to an error that nobody has foreseen."""
    if isinstance(error, MemoryError):
        return "too large for the memory there is; cut it into pieces"
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{': ' * bool(said)}{said}; this is a fault of maskseg, please report it"


class OutputError(InputError):
    """A result cannot be written, as the disk is full or its folder has gone: it ends a run, and not one image."""
