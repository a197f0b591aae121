"""What the tests of the writers share."""

import pytest

from maskseg.data.coco import load_coco
from maskseg.data.mask_folders import convert


@pytest.fixture(scope="session")
def sample_folder(repository, tmp_path_factory):
    """The eight held-out sample images, converted."""
    folder = tmp_path_factory.mktemp("sample")
    convert(repository / "datasets" / "sample" / "heldout", folder, progress=False)
    return folder


@pytest.fixture(scope="session")
def sample_masks(sample_folder):
    """The true nuclei of each."""
    data = load_coco(sample_folder)
    masks = [data.masks(image) for image in data.images]
    assert len(masks) == 8
    return masks
