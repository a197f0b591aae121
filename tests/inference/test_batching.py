"""Several images in the network at once give what they give one by one."""

from concurrent.futures import Future
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.labels import read_labels
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import read_image
from maskseg.inference.api import load_model
from maskseg.inference.batching import groups, run_batched
from maskseg.inference.run import predict_files
from tests.inference.test_predictor import BrightSpots, disks, picture, pixel_sets, scale_model
from tests.inference.test_run import Stub

SIZES = [(4, 6), (4, 4), (6, 4)]


class Sums:
    """Stands for a network: answers a canvas with the sum of its pixels, and remembers its batches."""

    def __init__(self):
        self.batches = []

    def __call__(self, canvases):
        self.batches.append([int(canvas.flat[0]) for canvas in canvases])
        assert len({canvas.shape for canvas in canvases}) == 1
        return [canvas.sum() for canvas in canvases]


def canvas(number: int, size: int = 4):
    return np.full((size, size), number, np.int64)


def ask(*canvases):
    """Work that asks for one canvas after the other, and ends with the answers."""
    answers = []
    for one in canvases:
        answers.append((yield one))
    return answers


def test_each_work_gets_its_own_answers_whatever_it_asks_for_and_in_whichever_order():
    network = Sums()

    def work(times):
        # The sizes change from question to question, and the works end after different numbers of them.
        return ask(*(canvas(10 * times + call, 4 + (times + call) % 2) for call in range(times)))

    found = run_batched([work(times) for times in (3, 0, 5, 2)], network)
    for times, answers in zip((3, 0, 5, 2), found, strict=True):
        assert answers == [(10 * times + call) * (4 + (times + call) % 2) ** 2 for call in range(times)]
    # Nobody runs ahead, so that the batches are always the same.
    assert network.batches == [[20], [30, 50], [31, 51], [21], [32, 52], [53], [54]]


def test_a_batch_that_is_too_large_for_the_memory_goes_one_by_one():
    class Small(Sums):
        def __call__(self, canvases):
            if len(canvases) > 1 or canvases[0].flat[0] == 3:
                raise torch.OutOfMemoryError
            return super().__call__(canvases)

    assert run_batched([ask(canvas(n)) for n in (1, 2)], Small()) == [[16], [32]]
    with pytest.raises(torch.OutOfMemoryError):
        run_batched([ask(canvas(n)) for n in (1, 3)], Small())


def test_what_is_wrong_with_one_image_is_no_matter_of_the_others(tmp_path):
    class Picky(Stub):
        cfg = SimpleNamespace(**{**vars(Stub.cfg), "TEST": SimpleNamespace(IMS_PER_BATCH=4)})

        def __init__(self):
            self.batches = []

        def segment_batch(self, images, tta=None):
            self.batches.append(len(images))
            if any(image[0, 0, 0] == 3 for image in images):
                raise InputError("three is not known")
            return [CropMasks.from_labels((image[..., 0] > 3).astype(int)) for image in images]

    for number in range(6):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((20, 30, 3), number, np.uint8))
    predictor = Picky()
    failed = predict_files(predictor, find_images([tmp_path]), tmp_path / "out", ["labels"])
    assert failed == [("3", f"{tmp_path / '3.png'}: three is not known")]
    assert predictor.batches == [4, 1, 1, 1, 1, 2]
    assert [read_labels(tmp_path / "out/labels" / f"{n}.tif").max() for n in (0, 1, 2, 4, 5)] == [0, 0, 0, 1, 1]


def test_groups_have_one_size_lose_nothing_and_never_hold_many():
    rng = np.random.default_rng(0)
    held, given = 0, []

    def read():
        nonlocal held
        for number in range(100):
            reading = Future()
            if rng.random() < 0.1:
                reading.set_exception(ValueError("unreadable"))
            else:
                reading.set_result((np.zeros(SIZES[rng.integers(len(SIZES))]), None))
            held += 1
            yield number, reading

    full = 0
    for group in groups(read(), 4, lambda read: read[0].shape):
        assert held <= 2 * 4
        held -= len(group)
        given += [number for number, _ in group]
        broken = [bool(reading.exception()) for _, reading in group]
        assert broken == [True] or not any(broken)
        if not any(broken):
            assert len({reading.result()[0].shape for _, reading in group}) == 1
            full += len(group) == 4
    assert sorted(given) == list(range(100))
    assert full > 10


@pytest.fixture
def model():
    """The bundled model on one thread, whose sums have one order; less sure than usual, so that it finds some more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(
        "nuclei", ["MODEL.DEVICE", "cpu", "INPUT.LONG_SIDE", "256", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.5"]
    )
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_images_of_several_sizes_give_in_batches_what_they_give_one_by_one(model, repository, tmp_path):
    whole = read_image(next((repository / "datasets/sample/heldout").glob("2dd9*/images/*.png")))
    (tmp_path / "images").mkdir()
    for number, (height, width) in enumerate([(96, 128), (128, 128), (96, 128), (128, 128), (128, 96), (96, 128)]):
        part = whole[15 * number :][:height, 20 * number : 20 * number + width]
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), part[..., ::-1])
    batches, plain = [], model.on_canvases
    model.on_canvases = lambda batch: batches.append(len(batch)) or plain(batch)
    model.cfg.defrost()
    for size in (1, 3):
        batches.clear()
        model.cfg.TEST.IMS_PER_BATCH = size
        assert predict_files(model, find_images([tmp_path / "images"]), tmp_path / str(size), ["labels"]) == []
        assert max(batches) == size
    nuclei = 0
    for number in range(6):
        one, three = (read_labels(tmp_path / size / "labels" / f"{number}.tif") for size in "13")
        assert one.max() == three.max()
        assert ((one > 0) != (three > 0)).mean() < 1e-3
        nuclei += one.max()
    assert nuclei > 20


class BatchedSpots(BrightSpots):
    """Takes batches, and remembers how many canvases each had."""

    def inference(self, samples, do_postprocess):
        self.batches = [*getattr(self, "batches", []), len(samples)]
        return [super(BatchedSpots, self).inference([sample], do_postprocess)[0] for sample in samples]


def test_a_batch_of_images_gives_what_each_gives_alone_also_where_they_are_magnified_or_empty():
    network = BatchedSpots()
    model = scale_model(network, "POSTPROCESS.TTA", "flip")
    images = [disks(10), disks(20), disks(60, 3), np.zeros((400, 512, 3), np.uint8), picture(1)]
    found = model.segment_batch(images)
    assert max(network.batches) == 4, "four of one size"
    for image, masks in zip(images, found, strict=True):
        assert pixel_sets(masks) == pixel_sets(model.segment(image))
    assert [len(masks) for masks in found[:4]] == [12, 12, 3, 0]
    assert model.segment_batch([]) == []
