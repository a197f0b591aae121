"""The size of nuclei and of pixels as the network sees them, by hand."""

import numpy as np
import pytest

from maskseg.core.masks import CropMasks
from maskseg.models.config import load_config
from maskseg.training.diameter import nucleus_diameter, pixel_size


def record(side: int, *squares: int) -> dict:
    """An image of side x side with squares of these sides in a row."""
    labels = np.zeros((side, side), np.int32)
    for label, square in enumerate(squares, start=1):
        x = label * side // (len(squares) + 1)
        labels[:square, x : x + square] = label
    annotations = [{"segmentation": rle} for rle in CropMasks.from_labels(labels).to_rle()]
    names = {"file_name": "a.png", "image_id": "a", "modality": ""}
    return {**names, "height": side, "width": side, "annotations": annotations}


def test_the_median_of_the_medians_in_network_pixels():
    records = [record(128, 2, 4, 10), record(128, 6), record(1024, 40, 40), record(64)]
    # Disks of the same area; 128 is magnified four times to 512, 1024 is shrunk by half or left as it is.
    sides = {True: [16, 24, 20], False: [16, 24, 40]}
    for shrink in (True, False):
        cfg = load_config("nuclei_R_18_FPN", ["INPUT.SHRINK", str(shrink)])
        expected = np.median(sides[shrink]) * np.sqrt(4 / np.pi)
        assert nucleus_diameter(records, cfg) == pytest.approx(expected, abs=0.05)
    assert nucleus_diameter([record(64)], cfg) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([0.5] * 10, 0.125),  # 128 pixels are magnified four times
        ([0.5] * 9 + [None], 0.125),
        ([0.5] * 8 + [None] * 2, 0),  # too few say it
        ([0.5] * 5 + [1.0] * 5, 0),  # two magnifications
        ([0.5] * 10 + [20.0], 0.125),  # one that errs
        ([0.50, 0.52, 0.54, 0.56, 0.58], 0.135),
        ([], 0),
    ],
)
def test_the_size_of_network_pixels_is_known_where_the_images_agree_on_it(said, expected):
    cfg = load_config("nuclei_R_18_FPN")
    records = [{**record(128), **({"microns_per_pixel": mpp} if mpp else {})} for mpp in said]
    assert pixel_size(records, cfg) == pytest.approx(expected)
