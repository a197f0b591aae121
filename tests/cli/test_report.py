"""`maskseg report data`."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sample(repository, tmp_path_factory):
    """The real sample images as a data set."""
    from maskseg.data.split import read_modalities
    from tests.fixtures.converting import convert_folders as convert

    out = tmp_path_factory.mktemp("sample")
    modalities = read_modalities(repository / "datasets" / "sample" / "modality.csv")
    convert(repository / "datasets" / "sample" / "train", out, modalities=modalities, progress=False)
    return out


def test_the_page_tells_what_is_in_the_data_set(maskseg, sample, tmp_path):
    from maskseg.data.dataset import load_coco

    data = load_coco(sample)
    nuclei = sum(map(len, data.annotations.values()))
    status, out, err = maskseg("report", "data", sample, "-o", tmp_path / "page.html")
    assert (status, err) == (0, "")
    assert out == f"{tmp_path / 'page.html'}: {len(data.images)} images, {nuclei} nuclei\n"
    page = (tmp_path / "page.html").read_text()
    modalities = {image["modality"] for image in data.images}
    assert f"{len(data.images)} images, {nuclei} nuclei, {len(modalities)} modalities" in page
    for modality in modalities:
        images = sum(image["modality"] == modality for image in data.images)
        assert re.search(rf"<td>{modality}</td>\s*<td class=\"number\" data-number=\"{images}.0\">", page)
    assert page.count("<figure>") == 6
    assert "12 24 48 96" in page


def test_the_anchors_are_those_of_the_config(maskseg, sample, tmp_path):
    status, _, err = maskseg(
        "report", "data", sample, "-o", tmp_path / "page.html", "--config-file", "nuclei_R_101_FPN"
    )
    assert (status, err) == (0, "")
    assert "8 16 32 64 128" in (tmp_path / "page.html").read_text()


def test_images_without_nuclei_have_no_figures_of_nuclei(maskseg, sample, tmp_path):
    from maskseg.data.dataset import load_coco, write_coco

    (tmp_path / "images").symlink_to(sample / "images")
    write_coco(tmp_path / "annotations.json", load_coco(sample).images, [])
    status, _, err = maskseg("report", "data", tmp_path, "-o", tmp_path / "page.html")
    assert (status, err) == (0, "")
    page = (tmp_path / "page.html").read_text()
    assert ("<figure>" in page, "data-full=" in page) == (False, True)


@pytest.mark.parametrize("arguments", [["none"], [".", "--config-file", "none"], [".:none"]])
def test_a_bad_argument_is_one_line_and_writes_nothing(arguments, maskseg, sample, tmp_path, monkeypatch):
    monkeypatch.chdir(sample)
    status, _, err = maskseg("report", "data", *arguments, "-o", tmp_path / "page.html")
    assert (status, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "page.html").exists()


def test_images_without_annotations_have_a_page_of_sizes_kinds_and_brightness(maskseg, repository, tmp_path):
    images = repository / "datasets" / "sample" / "heldout"
    status, out, err = maskseg("report", "data", images, "-o", tmp_path / "page.html")
    assert (status, err) == (0, "")
    count = len([path for path in images.iterdir() if path.is_dir()])
    assert out == f"{tmp_path / 'page.html'}: {count} images, without annotations\n"
    page = (tmp_path / "page.html").read_text()
    assert page.count("data-full=") == count
    for text in ("white on black", "purple on white", "8-bit grey", "8-bit colour", "upper limit"):
        assert text in page


def test_an_image_that_cannot_be_read_is_named_on_the_page_and_beside_it(maskseg, repository, tmp_path):
    import shutil

    source = next((repository / "datasets" / "sample" / "heldout").glob("*/images/*.png"))
    (tmp_path / "in").mkdir()
    shutil.copy(source, tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(source.read_bytes()[:200])
    status, out, err = maskseg("report", "data", tmp_path / "in", "-o", tmp_path / "page.html")
    assert (status, len(err.splitlines())) == (1, 1) and "bad.png" in err
    assert "1 not read" in out and "Not read" in (tmp_path / "page.html").read_text()
    (tmp_path / "in" / "good.png").unlink()
    status, _, err = maskseg("report", "data", tmp_path / "in", "-o", tmp_path / "none.html")
    assert (status, len(err.splitlines())) == (2, 1)
    assert not (tmp_path / "none.html").exists()


@pytest.fixture
def proteins(tmp_path):
    """Three images at hand, with one or two channels, of four in the table."""
    import cv2
    import numpy as np

    folder = tmp_path / "hpa"
    (folder / "train").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, channels in (("a", ("green",)), ("b", ("green", "red")), ("c", ("green",))):
        for channel in channels:
            image = rng.integers(0, 250, (32, 48)).astype(np.uint8)
            cv2.imwrite(str(folder / "train" / f"{name}_{channel}.png"), image)
    (folder / "train.csv").write_text("Id,Target\na,0\nb,0 25\nc,25 0\nd,27\n")
    return folder


def test_a_protein_set_has_a_page_of_its_classes(maskseg, proteins, tmp_path):
    status, out, _ = maskseg("report", "data", proteins, "-o", tmp_path / "page.html")
    assert status == 0
    assert out == f"{tmp_path / 'page.html'}: 3 images of 4 in the table\n"
    page = (tmp_path / "page.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    assert "0 Nucleoplasm 3 75.00 % 1 3" in text
    assert "27 Rods &amp; rings 1 25.00 % 1 0" in text
    assert "0 Nucleoplasm 25 Cytosol 2 1.333" in text, "2 of 4 together, where 3/4 of 2/4 come so by chance"
    # Three images of class 0, two of class 25, none at hand of class 27.
    assert page.count("data-full=") == 5


def test_a_damaged_channel_is_one_line(maskseg, proteins, tmp_path):
    (proteins / "train" / "b_red.png").write_bytes(b"no image")
    status, _, err = maskseg("report", "data", proteins, "-o", tmp_path / "page.html")
    assert status == 2 and "b_red.png" in err.splitlines()[-1]
    assert not (tmp_path / "page.html").exists()
