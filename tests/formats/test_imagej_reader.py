import zipfile

import numpy as np
import pytest
import tifffile
from roifile import ROI_OPTIONS, ROI_SUBTYPE, ROI_TYPE, ImagejRoi
from skimage.draw import polygon2mask

from maskseg.core.errors import InputError
from maskseg.formats.imagej import write_imagej
from maskseg.formats.imagej_reader import read
from maskseg.formats.registry import recognise

from .annotated import LABELS, masks_of, pixels, read_all

SHAPE = (40, 50)


def nuclei(*regions, tmp_path, shape=SHAPE):
    with zipfile.ZipFile(tmp_path / "RoiSet_a.zip", "w") as archive:
        for number, region in enumerate(regions):
            archive.writestr(f"{number}.roi", region.tobytes() if isinstance(region, ImagejRoi) else region)
    items, _ = read_all("imagej", tmp_path, shape)
    return items["a"]


def test_polygons_of_whole_and_of_part_pixels(tmp_path):
    whole = ImagejRoi.frompoints(np.array([[3, 2], [9, 2], [9, 7], [3, 7]]))
    parts = ImagejRoi.frompoints(np.array([[10.6, 2.0], [14.4, 2.0], [14.4, 4.0], [10.6, 4.0]], np.float32))
    found = nuclei(whole, parts, tmp_path=tmp_path)
    # A pixel belongs to a region when its centre lies inside.
    np.testing.assert_array_equal(found.masks.boxes, [[3, 2, 9, 7], [11, 2, 14, 4]])
    assert found.masks.areas.tolist() == [30, 6]


def test_an_oval_is_what_imagej_fills(tmp_path):
    oval = ImagejRoi(roitype=ROI_TYPE.OVAL, left=5, top=3, right=16, bottom=10)
    (mask,) = pixels(nuclei(oval, tmp_path=tmp_path).masks)
    expected = {
        (y, x)
        for y in range(40)
        for x in range(50)
        if ((x + 0.5 - 10.5) / 5.5) ** 2 + ((y + 0.5 - 6.5) / 3.5) ** 2 <= 1
    }
    assert mask == expected


def test_a_composite_region_has_holes_and_pieces(tmp_path):
    square = [0, 2, 2, 1, 12, 2, 1, 12, 12, 1, 2, 12, 4]
    hole = [0, 5, 5, 1, 8, 5, 1, 8, 8, 1, 5, 8, 4]
    piece = [0, 20, 20, 1, 25, 20, 2, 27.5, 22.5, 25, 25, 1, 20, 25, 4]
    path = np.array(square + hole + piece, np.float32)
    bounds = {"left": 2, "top": 2, "right": 28, "bottom": 25}
    region = ImagejRoi(roitype=ROI_TYPE.RECT, **bounds, shape_roi_size=len(path), multi_coordinates=path, group=3)
    found = nuclei(region, tmp_path=tmp_path)
    labels = found.masks.to_labels()
    assert labels[3, 3] and not labels[6, 6] and labels[22, 22]
    # The curve bulges out by half as much as its control point.
    assert labels[22, 25] and not labels[22, 26]
    assert found.classes == ["group 3"]


def test_what_has_no_area_or_is_broken_is_left_out_alone(tmp_path):
    point = ImagejRoi.frompoints(np.array([[3, 2]]))
    point.roitype = ROI_TYPE.POINT
    line = ImagejRoi(roitype=ROI_TYPE.LINE, x1=1, y1=1, x2=9, y2=9)
    label = ImagejRoi(roitype=ROI_TYPE.RECT, subtype=ROI_SUBTYPE.TEXT, left=1, top=1, right=5, bottom=5)
    good = ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5, props="score: 0.5\n")
    cut = good.tobytes()[:50]
    found = nuclei(point, line, label, good, cut, tmp_path=tmp_path)
    assert found.masks.areas.tolist() == [16]
    assert found.masks.scores.tolist() == [0.5]
    assert [one.file.rpartition(" ")[2] for one in found.left_out] == ["4.roi", "0.roi", "1.roi", "2.roi"]


def test_slices_of_a_stack_are_not_one_image(tmp_path):
    square = {"roitype": ROI_TYPE.RECT, "left": 1, "top": 1, "right": 5, "bottom": 5}
    with pytest.raises(InputError, match="2 slices"):
        nuclei(ImagejRoi(**square, position=1), ImagejRoi(**square, position=2), tmp_path=tmp_path)
    # One slice, or several channels of it, are one image.
    found = nuclei(ImagejRoi(**square, c_position=1), ImagejRoi(**square, c_position=2), tmp_path=tmp_path)
    assert len(found.masks) == 2


@pytest.mark.parametrize("layout", ["a.zip", "a_RoiSet.zip", "a/RoiSet.zip", "a/1.roi", "a.roi"])
def test_the_image_is_found_in_the_names(tmp_path, layout):
    path = tmp_path / layout
    path.parent.mkdir(exist_ok=True)
    region = ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("0001.roi", region.tobytes())
    else:
        path.write_bytes(region.tobytes())
    source = path if layout in ("a.roi", "a.zip") else tmp_path
    assert [item.image_id for item in read(source)] == ["a"]


def test_single_regions_are_for_the_images_of_their_names_where_there_are_such(tmp_path):
    region = ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5).tobytes()
    for name in ("images", "rois"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", np.zeros(SHAPE, np.uint8))
        (tmp_path / "rois" / f"{name}.roi").write_bytes(region)
    assert [item.image_id for item in read(tmp_path)] == ["a", "b"]


@pytest.mark.parametrize(("images", "expected"), [(["cell 1.tif"], "cell 1"), ([], "set"), (["b.tif", "c.tif"], "set")])
def test_a_zip_without_a_name_is_for_the_one_image_beside_it(tmp_path, images, expected):
    """ImageJ saves RoiSet.zip beside the image that is open."""
    folder = tmp_path / "set"
    folder.mkdir()
    for name in images:
        tifffile.imwrite(folder / name, np.zeros(SHAPE, np.uint8))
    with zipfile.ZipFile(folder / "RoiSet.zip", "w") as archive:
        region = ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5)
        archive.writestr("0001.roi", region.tobytes())
    assert [item.image_id for item in read(folder)] == [expected]
    assert [item.image_id for item in read(tmp_path)] == [expected]


def test_an_overlay_in_a_tiff_is_read(tmp_path):
    regions = [
        ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5, options=ROI_OPTIONS.OVERLAY_BACKGROUNDS),
        ImagejRoi(roitype=ROI_TYPE.OVAL, left=8, top=8, right=20, bottom=20),
    ]
    pixels_ = np.zeros(SHAPE, np.uint8)
    metadata = {"Overlays": [region.tobytes() for region in regions]}
    tifffile.imwrite(tmp_path / "a.tif", pixels_, imagej=True, metadata=metadata)
    assert recognise(tmp_path).name == "imagej"
    (item,) = read(tmp_path)
    assert (item.image_id, item.image.path) == ("a", tmp_path / "a.tif")
    assert len(item.read(SHAPE).masks) == 2


def test_what_was_selected_in_an_image_makes_it_no_annotation(tmp_path):
    """ImageJ keeps the last selection in every TIFF."""
    selected = {"ROI": ImagejRoi(roitype=ROI_TYPE.RECT, left=1, top=1, right=5, bottom=5).tobytes()}
    for folder, values in (("images", np.zeros(SHAPE, np.uint8)), ("masks", np.ones(SHAPE, np.uint8))):
        (tmp_path / folder).mkdir()
        tifffile.imwrite(tmp_path / folder / "a.tif", values, imagej=True, metadata=selected)
    assert recognise(tmp_path).name == "labels"


def test_regions_beyond_the_image_are_cut_or_left_out(tmp_path):
    over = ImagejRoi(roitype=ROI_TYPE.RECT, left=45, top=35, right=60, bottom=60)
    far = ImagejRoi(roitype=ROI_TYPE.RECT, left=100, top=35, right=160, bottom=60)
    found = nuclei(over, far, tmp_path=tmp_path)
    np.testing.assert_array_equal(found.masks.boxes, [[45, 35, 50, 40]])
    assert len(found.left_out) == 1


def test_pixels_are_those_of_roifile(tmp_path):
    """The corners that roifile gives, filled by another program."""
    write_imagej(tmp_path / "a.zip", masks_of())
    corners = [ring for region in ImagejRoi.fromfile(tmp_path / "a.zip") for ring in region.coordinates(multi=True)]
    filled = np.zeros(LABELS.shape, bool)
    for ring in corners:
        filled ^= polygon2mask(LABELS.shape, ring[:, ::-1] - 0.5)
    items, _ = read_all("imagej", tmp_path, LABELS.shape)
    np.testing.assert_array_equal(items["a"].masks.to_labels() > 0, filled)
