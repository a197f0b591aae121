"""What the tests of prediction share."""

from __future__ import annotations

import pytest

from tests.inference.grey_images import grey_images


@pytest.fixture
def images(tmp_path):
    """A folder of five images."""
    return grey_images(tmp_path / "images", 5)
