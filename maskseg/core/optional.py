"""Optional dependencies: the extras of the installation."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

from maskseg.core.errors import InputError


def need(module: str, extra: str, what: str) -> Any:
    """The package of an extra.

    Parameters
    ----------
    module : str
        Its name in Python.
    extra : str
        Of maskseg's ``setup.cfg``; empty where no extra has it, so that it is installed by its own name.
    what : str
        What needs it, and the start of the message.

    Raises
    ------
    InputError
        It is not installed, or it is and cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        command = f"'maskseg[{extra}]'" if extra else name.replace("_", "-")
        if find_spec(name) is not None:
            # Most often two packages whose versions do not go together.
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{what} needs the package {name}, which is there and cannot be imported: {reason}; "
                f"run: pip install --upgrade {command}"
            ) from error
        raise InputError(f"{what} needs the package {name}; install it with: pip install {command}") from error
