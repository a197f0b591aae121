import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask

from maskseg.core.errors import InputError
from maskseg.formats.aperio_xml import NUCLEUS, Region, read_regions, region_masks


def xml(*regions, scale=' MicronsPerPixel="0.25"', layer='Id="1" Name=""'):
    return f"<Annotations{scale}><Annotation {layer}><Regions>{''.join(regions)}</Regions></Annotation></Annotations>"


def region(points, attributes="", more=""):
    vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in points)
    return f"<Region {attributes}>{more}<Vertices>{vertices}</Vertices></Region>"


def box(x0, y0, x1, y1, **fields):
    """A rectangle over the pixels x0..x1, y0..y1, end exclusive, for the offset of -1."""
    points = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]], float) + 0.5
    return Region(fields.pop("layer", "1"), fields.pop("id", ""), points, **fields)


def painted(drawn):
    return [(masks_box, count) for masks_box, count in zip(drawn.masks.boxes.tolist(), drawn.masks.areas, strict=True)]


def test_regions_of_all_layers_are_read_in_order(tmp_path):
    more = f'<Attributes><Attribute Name="{NUCLEUS}" Value="3"/></Attributes>'
    (tmp_path / "x.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><Annotations MicronsPerPixel="0.2527">'
        '<Annotation Id="1" Name="epithelial"><Attributes/><Regions><RegionAttributeHeaders/>'
        + region([(1, 2), (3.5, 4), (5, 6)], 'Id="7" NegativeROA="0"')
        + region([(1, 1), (2, 1), (2, 2)], 'NegativeROA="1"', more)
        + '</Regions></Annotation><Annotation Id="4" Name=""><Regions>'
        + region([(0, 0), (9, 0), (9, 9)], 'Id="1"')
        + "</Regions></Annotation><Annotation/></Annotations>"
    )
    regions, microns = read_regions(tmp_path / "x.xml")
    assert microns == 0.2527
    assert [(item.layer, item.id, item.negative, item.nucleus, item.fault) for item in regions] == [
        ("epithelial", "7", False, "", ""),
        ("epithelial", "2", True, "3", ""),
        ("4", "1", False, "", ""),
    ]
    np.testing.assert_array_equal(regions[0].points, [[1, 2], [3.5, 4], [5, 6]])


@pytest.mark.parametrize("scale", ["", ' MicronsPerPixel="0"', ' MicronsPerPixel="wide"', ' MicronsPerPixel="nan"'])
def test_a_scale_that_is_none_is_none(scale):
    assert read_regions(xml(scale=scale).encode()) == ([], None)


@pytest.mark.parametrize(
    ("vertices", "fault"),
    [
        ("", "0 points"),
        ('<Vertex X="1" Y="2"/><Vertex X="3" Y="4"/>', "2 points"),
        ('<Vertex X="1" Y="2"/><Vertex X="3" Y="4"/><Vertex X="a" Y="4"/>', "without numbers"),
        ('<Vertex X="1" Y="2"/><Vertex X="3" Y="4"/><Vertex Y="4"/>', "without numbers"),
        ('<Vertex X="1" Y="2"/><Vertex X="3" Y="4"/><Vertex X="inf" Y="4"/>', "without numbers"),
    ],
)
def test_a_region_that_is_no_outline_is_lost_alone(vertices, fault):
    text = xml(f"<Region><Vertices>{vertices}</Vertices></Region>", region([(1, 1), (5, 1), (5, 5), (1, 5)]))
    regions, _ = read_regions(text.encode())
    assert fault in regions[0].fault
    drawn = region_masks(regions, (9, 9))
    assert drawn.lost == {0: regions[0].fault}
    assert drawn.members == [[1]]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><Annotations>&b;</Annotations>'
FILE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><Annotations>&a;</Annotations>'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "malformed"),
        (xml(region([(1, 1)])).encode()[:-20], "malformed"),
        (b"\x00\x01\x02", "malformed"),
        (b'<?xml version="1.0" encoding="klingon"?><Annotations/>', "malformed"),
        (b"<html/>", "no Aperio file"),
        (BOMB.encode(), "entities"),
        (FILE.encode(), "entities"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, content, told):
    (tmp_path / "x.xml").write_bytes(content)
    with pytest.raises(InputError, match=told) as error:
        read_regions(tmp_path / "x.xml")
    assert str(tmp_path / "x.xml") in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.xml"):
        read_regions(tmp_path / "none.xml")


@given(st.floats(4, 14), st.floats(4, 14), st.integers(0, 1000), st.sampled_from([(-1, -1), (0, 0), (-0.5, 2.25)]))
def test_masks_agree_with_scikit_image(x, y, seed, offset):
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, 12))
    points = np.array([x, y]) + random.uniform(2, 7, (12, 1)) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    drawn = region_masks([Region("1", "1", points)], (15, 16), offset)
    expected = polygon2mask((15, 16), (points + offset)[:, ::-1])
    np.testing.assert_array_equal(drawn.masks.to_labels() == 1, expected)


def test_by_default_vertices_are_counted_from_one():
    points = np.array([[0.6, 0.6], [1.4, 0.6], [1.4, 1.4], [0.6, 1.4]])
    assert painted(region_masks([Region("1", "1", points)], (4, 4))) == [([0, 0, 1, 1], 1)]


def test_vertices_outside_the_image_are_cut_off_and_told():
    regions = [box(-5, 2, 3, 4), box(0, 0, 9, 6), box(20, 0, 22, 3), box(-1e8, 0, 1e8, 1)]
    drawn = region_masks(regions, (6, 9))
    assert painted(drawn) == [([0, 2, 3, 4], 6), ([0, 0, 9, 6], 54), ([0, 0, 9, 1], 9)]
    assert {0, 3} <= drawn.beyond
    assert 1 not in drawn.beyond
    assert list(drawn.lost) == [2]


def test_a_line_that_goes_round_twice_leaves_no_hole():
    outer, inner = box(0, 0, 9, 9).points, box(2, 2, 6, 6).points
    points = np.concatenate([outer, outer[:1], inner, inner[:1]])
    assert painted(region_masks([Region("1", "1", points)], (9, 9))) == [([0, 0, 9, 9], 81)]


def test_a_hole_is_cut_out_of_larger_regions_of_its_layer_only():
    regions = [
        box(0, 0, 9, 9),
        box(1, 1, 7, 7),
        box(3, 3, 5, 5),
        box(0, 0, 9, 9, layer="other"),
        box(2, 2, 6, 6, negative=True),
    ]
    drawn = region_masks(regions, (9, 9))
    assert drawn.masks.areas.tolist() == [81 - 16, 36 - 16, 4, 81]
    assert drawn.members == [[0, 4], [1, 4], [2], [3]]
    assert not drawn.lost


def test_a_hole_with_a_number_is_cut_out_of_that_nucleus_only():
    regions = [box(0, 0, 9, 9, nucleus="1"), box(2, 2, 6, 6, negative=True, nucleus="1"), box(1, 1, 8, 8, nucleus="2")]
    drawn = region_masks(regions, (9, 9))
    assert drawn.masks.areas.tolist() == [81 - 16, 49]


def test_regions_with_one_number_are_one_nucleus():
    regions = [box(0, 0, 2, 2, nucleus="1"), box(7, 3, 9, 5, nucleus="1"), box(4, 0, 5, 1, nucleus="1", layer="other")]
    assert painted(region_masks(regions, (9, 9))) == [([0, 0, 9, 5], 8), ([4, 0, 5, 1], 1)]


def test_holes_that_cut_nothing_or_all_are_told():
    regions = [
        box(0, 0, 3, 3, negative=True),
        box(5, 5, 7, 7, nucleus="1"),
        box(4, 4, 8, 8, negative=True, nucleus="1"),
    ]
    drawn = region_masks(regions, (9, 9))
    assert len(drawn.masks) == 0
    assert "no larger region" in drawn.lost[0]
    assert set(drawn.lost) == {0, 1, 2}


def test_a_hole_of_a_nucleus_that_is_left_is_not_lost():
    regions = [box(0, 0, 4, 4), box(4, 0, 9, 9), box(0, 0, 5, 1, negative=True, nucleus=""), box(2, 2, 3, 3)]
    regions += [box(2, 2, 3, 3, negative=True, nucleus="7"), box(2, 2, 3, 3, nucleus="7")]
    drawn = region_masks(regions, (9, 9))
    assert drawn.members == [[0, 2], [1, 2], [3]]
    assert set(drawn.lost) == {4, 5}
