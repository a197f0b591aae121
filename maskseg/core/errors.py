"""The one error that means "the input is wrong", told in one line."""


class InputError(ValueError):
    """Bad input from the user.

    The message is one line that names the file (or key) and the remedy. Commands print it without a traceback
    and exit with status 2; batch functions collect it and go on with the rest.
    """


def unexpected(error: Exception) -> str:
    """What is said of an image that was lost to an error that nobody has foreseen."""
    if isinstance(error, MemoryError):
        return "too large for the memory there is; cut it into pieces"
    said = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}{': ' * bool(said)}{said}; this is a fault of maskseg, please report it"


class OutputError(InputError):
    """A result cannot be written, as the disk is full or its folder has gone: it ends a run, and not one image."""
