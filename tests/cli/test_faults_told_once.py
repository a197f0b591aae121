"""What is wrong with a file is told with its name, and with that once, whichever command meets it."""

import cv2
import numpy as np
import pytest

from tests.formats.annotated import LABELS, masks_of, write


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    for name in ("good", "spoilt"):
        cv2.imwrite(str(tmp_path / "photos" / f"{name}.png"), np.zeros((*LABELS.shape, 3), np.uint8))
    return tmp_path / "photos"


@pytest.fixture(params=["geojson", "labelme"])
def given(request, tmp_path):
    """A readable file, and one of which the end is missing."""
    write(request.param, tmp_path / "given", {"good": masks_of(), "spoilt": masks_of()})
    spoilt = next((tmp_path / "given").glob("spoilt.*"))
    spoilt.write_bytes(spoilt.read_bytes()[:-9])
    return request.param, spoilt


def once(error, spoilt):
    lines = [line for line in error.splitlines() if spoilt.stem in line]
    assert lines, error
    assert all(line.count(f"{spoilt}: ") == 1 for line in lines), lines


@pytest.mark.slow
@pytest.mark.parametrize("command", ["convert", "auto", "export", "evaluate"])
def test_a_damaged_file_is_named_once(maskseg, photos, given, tmp_path, command):
    name, spoilt = given
    folder = spoilt.parent
    out = ("-o", tmp_path / "out")
    arguments = {
        "convert": ("convert", name, folder, *out, "--images", photos, "--workers", 1),
        "auto": ("convert", "auto", folder, *out, "--images", photos, "--workers", 1),
        "export": ("export", folder, *out, "--to", "labels", "--images", photos, "--workers", 1),
        "evaluate": ("evaluate", "--truth", folder, "--pred", folder, "--images", photos),
    }[command]
    status, _, error = maskseg(*arguments)
    # A reader that looks into all files before it lists them leaves one out, which is a note where images are scored.
    assert status == 2 or (command, name) == ("evaluate", "labelme")
    once(error, spoilt)


@pytest.mark.parametrize("command", ["convert", "evaluate", "export"])
def test_an_annotation_at_fault_is_told_with_its_file_where_nothing_else_is_there(maskseg, photos, tmp_path, command):
    spoilt = tmp_path / "given" / "spoilt.geojson"
    spoilt.parent.mkdir()
    outline = '{"type": "Polygon", "coordinates": [[[1, 1], [2, 2]]]}'
    feature = f'{{"type": "Feature", "geometry": {outline}, "properties": {{}}}}'
    spoilt.write_text(f'{{"type": "FeatureCollection", "features": [{feature}]}}')
    arguments = {
        "convert": ("convert", "geojson", spoilt, "-o", tmp_path / "out", "--images", photos),
        "evaluate": ("evaluate", "--truth", spoilt, "--pred", spoilt, "--images", photos),
        "export": ("export", spoilt, "-o", tmp_path / "out", "--to", "labels", "--images", photos),
    }[command]
    status, _, error = maskseg(*arguments)
    assert status == 2
    told = [line for line in error.splitlines() if "2 points" in line]
    assert told, error
    once("\n".join(told), spoilt)


def test_an_image_that_cannot_be_segmented_is_named_once(tmp_path):
    from maskseg.core.errors import InputError
    from maskseg.imaging.reading import ImageFile
    from maskseg.inference.faults import reason_for

    file = ImageFile("x", tmp_path / "x.png")
    for said in ("too small", f"{file.name}: too small"):
        assert reason_for(file, InputError(said)) == f"{file.name}: too small"
