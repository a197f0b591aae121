"""What the examples in docstrings may use."""

from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def _examples_write_elsewhere(request, tmp_path_factory, monkeypatch):
    """An example that writes a file does so in an empty folder."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path_factory.mktemp("example"))


# The plugin is imported where napari is installed.
collect_ignore_glob = [] if find_spec("napari") and find_spec("magicgui") else ["maskseg/napari_plugin/*"]
