"""Images whose files say how large their pixels are."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from maskseg.core.errors import InputError
from maskseg.imaging.finding import find_images
from maskseg.inference.run import predict_files
from maskseg.inference.tile_grid import Tiles
from tests.fixtures.squares import Squares, Stub


class Sized(Squares):
    """Knows the size of the pixels of each image that it is given."""

    def __init__(self, seen, mpp=None):
        super().__init__()
        self.seen, self.mpp = seen, mpp

    def at_pixel_size(self, microns_per_pixel, name="image"):
        if microns_per_pixel is None:
            raise InputError(f"{name}: does not say how large its pixels are")
        return Sized(self.seen, microns_per_pixel)

    def segment(self, image, tta):
        self.seen.append((int(image[0, 0, 0]), self.mpp))
        return super().segment(image, tta)


@pytest.mark.parametrize(("tiles", "half"), [({}, None), ({"mpp": 0.5}, None), ({"level": 0, "large": 1}, 4.0)])
def test_each_image_is_predicted_by_the_size_of_its_own_pixels(tmp_path, tiles, half):
    """Of a batch too, and where it is read at another size; what does not say it is left out."""
    (tmp_path / "images").mkdir()
    for number, mpp in enumerate([0.5, 0.5, 0.25, None, 1.0], start=1):
        said = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": 3} if mpp else {}
        pixels = np.full((30, 40), number, np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{number}.tif", pixels, photometric="minisblack", **said)
    seen = []
    model = Sized(seen)
    model.cfg = SimpleNamespace(**(vars(Stub.cfg) | {"TEST": SimpleNamespace(IMS_PER_BATCH=3)}))
    files = find_images([tmp_path / "images"])
    failed = predict_files(model, files, tmp_path / "out", ["table"], tiles=Tiles(**tiles), microns_per_pixel=half)
    if half:
        assert sorted(seen) == [(number, half) for number in range(1, 6)]
        return
    assert [name for name, _ in failed] == ["4"]
    assert "does not say how large its pixels are" in failed[0][1]
    sizes = dict.fromkeys((1, 2, 3, 5), 0.5) if tiles else {1: 0.5, 2: 0.5, 3: 0.25, 5: 1.0}
    assert dict(seen) == sizes
