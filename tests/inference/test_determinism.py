"""The network gives the same nuclei whatever the number of threads."""

import numpy as np
import pytest
import torch

from maskseg import load_model, read_image


@pytest.mark.slow
def test_nuclei_and_scores_are_the_same_with_one_thread_and_with_two(repository):
    path = next(iter(sorted((repository / "datasets" / "sample" / "heldout").glob("*/images/*.png"))))
    image, before, found = read_image(path), torch.get_num_threads(), []
    predictor = load_model("nuclei", ["MODEL.DEVICE", "cpu"])
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(predictor.segment(image, tta="none"))
    finally:
        torch.set_num_threads(before)
    assert len(found[0]) > 0
    np.testing.assert_array_equal(found[0].to_labels(), found[1].to_labels())
    np.testing.assert_array_equal(found[0].scores, found[1].scores)
