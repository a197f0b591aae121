"""What every test may use."""

from __future__ import annotations

import logging
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

# Before a test imports detectron2: where there is no other, the copy that maskseg carries.
import maskseg  # noqa: F401

# Fixtures that tests of several packages share.
pytest_plugins = [
    "tests.fixtures.closed",
    "tests.fixtures.commands",
    "tests.fixtures.datasets",
    "tests.fixtures.sample",
    "tests.fixtures.training",
]

# On a busy machine an example may take any time; only its result counts.
settings.register_profile("maskseg", parent=settings.default, deadline=None)
settings.load_profile("maskseg")

# A shell that starts the tests in the background has them ignore Ctrl-C, and so every process that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Figures are drawn to files; a test never opens a window.
os.environ.setdefault("MPLBACKEND", "Agg")


LARGE = 1 << 20
"""Bytes from which a file is not kept until the end of all tests."""

_FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Remember which test failed: its files are kept."""
    report = yield
    item.stash[_FAILED] = item.stash.get(_FAILED, False) or report.failed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    """Large files of a test go with it: hundreds of tests with a model of their own filled the disk with gigabytes.

    Folders and small files stay until the end, since a program of the test may still stand in them.
    """
    result = yield
    folder = getattr(item, "funcargs", {}).get("tmp_path")
    if folder is not None and not item.stash.get(_FAILED, False):
        for place, _, names in os.walk(folder):
            for name in names:
                path = Path(place, name)
                with suppress(OSError):
                    if not path.is_symlink() and path.stat().st_size >= LARGE:
                        path.unlink()
    return result


@pytest.fixture(autouse=True)
def _loggers_as_before():
    """A command that logs to the screen and to files, as a training does, leaves nothing of that to the next test."""
    loggers = [logging.getLogger(name) for name in ("maskseg", "detectron2", "fvcore")]
    before = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, (logger.handlers[:], logger.propagate, level) in zip(loggers, before, strict=True):
        logger.setLevel(level)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return Path(__file__).resolve().parent.parent
