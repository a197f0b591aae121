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
