import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from maskseg.convert.annotated import convert_annotations
from maskseg.core.errors import InputError
from maskseg.formats.labelme import read

from .annotated import read_all

SHAPE = (40, 50)


def shape(points, kind="polygon", label="nucleus", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def nuclei(tmp_path, *shapes, **more):
    data = {"version": "5.4.1", "flags": {}, "shapes": list(shapes), "imagePath": "..\\raw\\a.png", "imageData": None}
    (tmp_path / "a.json").write_text(json.dumps({**data, "imageHeight": 40, "imageWidth": 50, **more}))
    return read_all("labelme", tmp_path)[0]["a"]


def test_every_shape_with_an_area_is_a_nucleus(tmp_path):
    found = nuclei(
        tmp_path,
        shape([[1, 1], [5, 1], [5, 4], [1, 4]], label="a"),
        shape([[20, 9], [10, 3]], "rectangle", label="b"),
        shape([[30, 20], [30, 26]], "circle", label="c"),
        shape([[3, 3]], "point"),
        shape([[3, 3], [9, 9]], "line"),
    )
    np.testing.assert_array_equal(found.masks.boxes, [[1, 1, 5, 4], [10, 3, 20, 9], [24, 14, 36, 26]])
    y, x = np.indices(SHAPE) + 0.5
    np.testing.assert_array_equal(found.masks.to_labels() == 3, np.hypot(x - 30, y - 20) <= 6)
    assert found.classes == ["a", "b", "c"]
    assert len(found.left_out) == 2


def test_boxes_with_all_their_corners_are_read(tmp_path):
    """As newer versions and other programs with this form write turned and plain boxes."""
    corners = [[3, 2], [9, 2], [9, 7], [3, 7]]
    kinds = ("rectangle", "oriented_rectangle", "rotation")
    found = nuclei(tmp_path, *(shape(corners, kind) for kind in kinds))
    np.testing.assert_array_equal(found.masks.boxes, [[3, 2, 9, 7]] * 3)


@pytest.mark.parametrize(("kind", "ending"), [("PNG", ".png"), ("JPEG", ".jpg")])
def test_the_image_in_the_file_is_taken_where_there_is_no_other(tmp_path, kind, ending):
    source, file = tmp_path / "source", io.BytesIO()
    source.mkdir()
    Image.new("RGB", SHAPE[::-1], (10, 20, 30)).save(file, kind)
    data = base64.b64encode(file.getvalue()).decode()
    nuclei(source, shape([[1, 1], [5, 1], [5, 4], [1, 4]]), imageData=data)
    convert_annotations(source, tmp_path / "out", "labelme", progress=False)
    assert (tmp_path / "out" / "images" / f"a{ending}").read_bytes() == file.getvalue()
    Image.new("L", SHAPE[::-1]).save(source / "a.bmp")
    convert_annotations(source, tmp_path / "again", "labelme", progress=False)
    assert [path.name for path in (tmp_path / "again" / "images").iterdir()] == ["a.bmp"]
    (source / "a.bmp").unlink()
    nuclei(source, shape([[1, 1], [5, 1], [5, 4], [1, 4]]), imageData=data[:-3])
    with pytest.raises(InputError, match=r"a\.json: its imageData"):
        convert_annotations(source, tmp_path / "cut", "labelme", progress=False)


def test_shapes_of_a_group_are_pieces_of_a_nucleus(tmp_path):
    one, two = [[1, 1], [5, 1], [5, 4], [1, 4]], [[8, 1], [12, 1], [12, 4], [8, 4]]
    found = nuclei(tmp_path, shape(one, group_id=7), shape(two, group_id=7), shape(two, group_id=7, label="other"))
    assert found.masks.areas.tolist() == [24, 12]


def test_the_mask_that_labelme_itself_writes(tmp_path):
    """A PNG of one bit a pixel, 5 x 3 pixels at (4, 2), the middle one empty."""
    bitmap = np.ones((3, 5), np.uint8) * 255
    bitmap[1, 2] = 0
    file = io.BytesIO()
    Image.fromarray(bitmap > 0).save(file, "PNG")
    mask = base64.b64encode(file.getvalue()).decode()
    found = nuclei(
        tmp_path, shape([[4, 2], [8, 4]], "mask", mask=mask), shape([[4, 2], [8, 4]], "mask", mask=mask[:20])
    )
    np.testing.assert_array_equal(found.masks.boxes, [[4, 2, 9, 5]])
    np.testing.assert_array_equal(found.masks.bitmaps[0], bitmap > 0)
    assert len(found.left_out) == 1


def test_the_image_is_the_one_that_the_file_names(tmp_path):
    nuclei(tmp_path, shape([[1, 1], [5, 1], [5, 4]]))
    (item,) = read(tmp_path)
    assert (item.image_id, item.file_name, item.shape) == ("a", "..\\raw\\a.png", SHAPE)


def test_what_is_no_labelme_file_is_left_out_or_refused(tmp_path):
    nuclei(tmp_path, shape([[1, 1], [5, 1], [5, 4]]))
    (tmp_path / "b.json").write_text("{}")
    (tmp_path / "c.json").write_text("{")
    items, others = read_all("labelme", tmp_path)
    assert list(items) == ["a"]
    assert len(others) == 2
    with pytest.raises(InputError, match=r"no \.json file"):
        list(read(tmp_path / "none"))
