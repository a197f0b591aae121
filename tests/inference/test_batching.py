"""Several images in the network at once give what they give one by one."""

from concurrent.futures import Future

import cv2
import numpy as np
import pytest
import torch

from maskseg.formats.labels import read_labels
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import read_image
from maskseg.inference.batching import groups, together
from maskseg.inference.predictor import SoftMasks, load_model
from maskseg.inference.run import predict_files

SIZES = [(4, 6), (4, 4), (6, 4)]


class Sums:
    """Stands for a predictor: finds as many nuclei as the pixels of a canvas sum up to, and remembers its batches."""

    def __init__(self):
        self.batches = []

    def on_canvas(self, canvas):
        return self.on_canvases([canvas])[0]

    def on_canvases(self, canvases):
        self.batches.append([int(canvas.flat[0]) for canvas in canvases])
        assert len({canvas.shape for canvas in canvases}) == 1
        return [SoftMasks(None, np.full(1, canvas.sum()), None) for canvas in canvases]


def canvas(number: int, size: int = 4):
    return np.full((size, size), number, np.int64)


def test_each_step_gets_its_own_answers_whatever_it_asks_for_and_in_whichever_order():
    predictor = Sums()

    def ask(times):
        # The sizes change from call to call, and the steps end after different numbers of calls.
        return lambda mine: [
            mine.on_canvas(canvas(10 * times + call, 4 + (times + call) % 2)).scores[0] for call in range(times)
        ]

    found = [result() for result in together(predictor, [ask(times) for times in (3, 0, 5, 2)])]
    for times, answers in zip((3, 0, 5, 2), found, strict=True):
        assert answers == [(10 * times + call) * (4 + (times + call) % 2) ** 2 for call in range(times)]
    # Nobody runs ahead, so that the batches are always the same.
    assert predictor.batches == [[20], [30, 50], [31, 51], [21], [32, 52], [53], [54]]


def test_a_step_that_fails_leaves_the_others_alone():
    def fail(mine):
        mine.on_canvas(canvas(1))
        raise ValueError("broken")

    good, bad = together(Sums(), [lambda mine: [mine.on_canvas(canvas(2)).scores[0] for _ in range(3)], fail])
    assert good() == [32, 32, 32]
    with pytest.raises(ValueError, match="broken"):
        bad()


def test_a_batch_that_is_too_large_for_the_memory_goes_one_by_one():
    class Small(Sums):
        def on_canvases(self, canvases):
            if len(canvases) > 1 or canvases[0].flat[0] == 3:
                raise torch.OutOfMemoryError
            return super().on_canvases(canvases)

    steps = [lambda mine, n=n: mine.on_canvas(canvas(n)).scores[0] for n in (1, 2, 3)]
    first, second, third = together(Small(), steps)
    assert (first(), second()) == (16, 32)
    with pytest.raises(torch.OutOfMemoryError):
        third()


def test_an_interrupted_network_leaves_no_step_waiting():
    class Interrupted(Sums):
        def on_canvases(self, canvases):
            raise KeyboardInterrupt

    ended = []

    def ask(mine):
        try:
            mine.on_canvas(canvas(1))
        finally:
            ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        together(Interrupted(), [ask] * 3)
    assert len(ended) == 3


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
    for group in groups(read(), 4):
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
    """The bundled model on one thread, whose sums have one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model("nuclei", ["MODEL.DEVICE", "cpu", "INPUT.LONG_SIDE", "256"])
    torch.set_num_threads(threads)


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
