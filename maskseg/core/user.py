"""The name of the user who runs maskseg, also where the system knows none."""

from __future__ import annotations

import getpass
import os


def name_user() -> None:
    """Give the user a name where the system has none, as in a container under a bare number: PyTorch asks for it."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = "maskseg"
