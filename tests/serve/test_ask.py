"""What a person points at, as the network outlines it."""

import numpy as np
import pytest

from maskseg.imaging.reading import read_image
from maskseg.inference.api import load_model
from maskseg.serve.ask import at_point, in_box


@pytest.fixture(scope="module")
def model():
    return load_model("nuclei", ["MODEL.DEVICE", "cpu"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2dd9", "2c61", "ce37"])
@pytest.mark.parametrize("cut", [0, 7])
def test_a_nucleus_is_found_again_by_its_box_and_by_its_middle(model, repository, name, cut):
    whole = read_image(next((repository / "datasets/sample/heldout").glob(f"{name}*/images/*.png")))
    image = np.ascontiguousarray(whole[: 201 - cut, : 233 - 2 * cut])
    found = model.segment(image)
    inside = [
        number
        for number, (x0, y0, x1, y1) in enumerate(found.boxes.tolist())
        if min(x0, y0, image.shape[1] - x1, image.shape[0] - y1) > 2
    ]
    number = max(inside, key=lambda one: found.scores[one])
    x0, y0, x1, y1 = found.boxes[number].tolist()
    then = np.zeros(image.shape[:2], bool)
    then[y0:y1, x0:x1] = found.bitmaps[number]
    rows, columns = np.nonzero(then)
    size = float(np.sqrt(4 / np.pi * then.sum()))
    for again in (
        in_box(model, image, (x0, y0, x1, y1)),
        at_point(model, image, (float(np.median(columns)), float(np.median(rows))), size),
    ):
        assert again.shape == image.shape[:2]
        now = again.to_labels() > 0
        assert (now & then).sum() / (now | then).sum() > 0.7
