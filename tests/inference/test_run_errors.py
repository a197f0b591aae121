"""An image that cannot be done, or a disk that is full, while many images are predicted to files."""

import pytest

from maskseg.core.errors import OutputError
from maskseg.core.files import named_if_full
from maskseg.imaging.finding import find_images
from maskseg.inference import run as batch
from maskseg.inference.run import predict_files
from tests.inference.test_run import QUICK, Squares


class Broken(Squares):
    """Ends with an error of its own on the images whose first pixel it is given."""

    def __init__(self, error, *on):
        super().__init__()
        self.error, self.on = error, on

    def segment(self, image, tta):
        if image[0, 0, 0] in self.on:
            raise self.error
        return super().segment(image, tta)


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("no\nkernel"), ZeroDivisionError(), MemoryError(), KeyError("a")])
def test_any_error_of_one_image_is_named_and_the_others_are_done(images, tmp_path, error):
    failed = predict_files(Broken(error, 3, 9), find_images([images]), tmp_path / "out", QUICK)
    assert [name for name, _ in failed] == ["image_1", "image_3"]
    assert all("image_" in reason and "\n" not in reason for _, reason in failed)
    assert sorted(path.stem for path in (tmp_path / "out" / "labels").iterdir()) == ["image_0", "image_2", "image_4"]


def test_an_error_while_one_image_is_written_is_of_that_image(images, tmp_path, monkeypatch):
    real = batch.Run.write

    def write(self, file, *args):
        if file.id == "image_2":
            raise TypeError("not a number")
        real(self, file, *args)

    monkeypatch.setattr(batch.Run, "write", write)
    ((name, reason),) = predict_files(Squares(), find_images([images]), tmp_path / "out", QUICK)
    assert name == "image_2"
    assert "TypeError: not a number" in reason


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(images, tmp_path, monkeypatch):
    real, full = batch.Run.write, OSError(28, "No space left on device")

    def write(self, file, *args):
        if file.id == "image_3":
            with named_if_full(self.part(file.id)):
                raise full
        real(self, file, *args)

    monkeypatch.setattr(batch.Run, "write", write)
    with pytest.raises(OutputError, match="No space left on device"):
        predict_files(Squares(), find_images([images]), tmp_path / "out", QUICK)
    monkeypatch.undo()
    predictor = Squares()
    assert predict_files(predictor, find_images([images]), tmp_path / "out", QUICK) == []
    assert 1 <= predictor.calls <= 2
