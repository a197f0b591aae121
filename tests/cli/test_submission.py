import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture
def check(maskseg, tmp_path):
    def run(text, images):
        path = tmp_path / "s.csv"
        path.write_text(text)
        return maskseg("submission", "check", path, "--images", images)

    return run


def test_a_valid_file_is_ok_in_one_line(check, images, tmp_path):
    status, output, error = check("ImageId,EncodedPixels\na,1 2 5 2\na,3 2 7 1\nb,\n", images)
    assert (status, error) == (0, "")
    assert output == f"{tmp_path / 's.csv'}: OK, 2 masks in 2 images, 1 of them empty\n"


def test_every_fault_has_a_line_and_the_status_is_two(check, images):
    status, output, error = check("ImageId,EncodedPixels\na,1 2\na,2 2\na,20 2\nc,1 1\n", images)
    assert (status, output) == (2, "")
    faults = error.splitlines()
    assert len(faults) == 5
    for fault, says in zip(faults, ["line 3", "line 4", "line 5", "image b is missing", "4 faults"], strict=True):
        assert "s.csv" in fault
        assert says in fault


def test_a_flood_of_faults_is_cut_and_counted(check, images):
    status, _, error = check("ImageId,EncodedPixels\n" + "c,1 1\n" * 5000, images)
    assert status == 2
    assert len(error.splitlines()) == 101
    assert "5002 faults" in error


def test_images_that_are_not_there_are_one_line(check, tmp_path):
    status, _, error = check("ImageId,EncodedPixels\n", tmp_path / "nowhere")
    assert status == 2
    assert error.startswith("maskseg: error: ")
    assert "nowhere" in error
    assert error.count("\n") == 1


def test_an_image_that_cannot_be_read_is_named_once_and_the_others_are_checked(check, images):
    (images / "a.png").write_bytes(b"no image")
    status, _, error = check("ImageId,EncodedPixels\na,1 2\na,3 2\nb,20 2\n", images)
    bad, other, count = error.splitlines()
    assert status == 2
    assert "line 2: image a: " in bad and "a.png: damaged" in bad
    assert "line 4: image b: " in other
    assert "2 faults" in count
