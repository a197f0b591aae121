import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from skimage.draw import polygon2mask

from maskseg.core.outlines import fill, outlines, rasterise

bitmaps = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
coordinates = st.integers(-300, 1500).map(lambda value: value / 100)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(np.array)


def area(ring):
    """Signed; above 0 where the ring runs clockwise on the screen."""
    (x, y), (u, v) = ring.T, np.roll(ring, -1, axis=0).T
    return (x * v - u * y).sum() / 2


@pytest.mark.slow
@given(bitmaps)
def test_filling_the_outlines_gives_the_bitmap(bitmap):
    height, width = bitmap.shape
    np.testing.assert_array_equal(fill(outlines(bitmap), (0, 0, width, height)), bitmap)


@pytest.mark.slow
@given(bitmaps)
def test_each_piece_is_one_polygon_of_simple_rings(bitmap):
    polygons = outlines(bitmap)
    pieces, count = ndimage.label(bitmap)
    assert len(polygons) == count
    # In the order of their first pixels, as the labels are.
    for number, polygon in enumerate(polygons, start=1):
        assert area(polygon[0]) > 0
        assert all(area(hole) < 0 for hole in polygon[1:])
        assert sum(map(area, polygon)) == np.count_nonzero(pieces == number)
        for ring in polygon:
            assert len(np.unique(ring, axis=0)) == len(ring)
            steps = np.roll(ring, -1, axis=0) - ring
            # Along one axis at a time, and at every vertex along the other.
            assert ((steps != 0).sum(axis=1) == 1).all()
            assert ((steps[:, 0] == 0) == (np.roll(steps, 1, axis=0)[:, 1] == 0)).all()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (["..", ".."], []),
        (["#"], [1]),
        (["#.", ".#"], [1, 1]),
        ([".#", "#."], [1, 1]),
        (["###", "#.#", "###"], [2]),
        # Two holes that touch at a corner are two rings.
        (["####", "#.##", "##.#", "####"], [3]),
        # A piece that meets itself at a corner encloses a hole.
        (["###", "#.#", "##."], [2]),
        # A nucleus inside the hole of another.
        (["#####", "#...#", "#.#.#", "#...#", "#####"], [2, 1]),
        # As before, but it touches the outer one at a corner.
        (["####", "#..#", "#.#.", "####"], [2]),
    ],
)
def test_rings_of_a_picture(rows, expected):
    bitmap = np.array([[pixel == "#" for pixel in row] for row in rows])
    assert [len(polygon) for polygon in outlines(bitmap)] == expected
    np.testing.assert_array_equal(fill(outlines(bitmap), (0, 0, *bitmap.shape[::-1])), bitmap)


def test_one_pixel_is_the_square_that_it_covers():
    ((ring,),) = outlines(np.ones((1, 1), bool), (5, 7))
    assert ring.tolist() == [[5, 7], [6, 7], [6, 8], [5, 8]]


@pytest.mark.slow
@given(bitmaps, st.integers(-20, 20), st.integers(-20, 20))
def test_the_origin_moves_the_outlines(bitmap, x, y):
    height, width = bitmap.shape
    np.testing.assert_array_equal(fill(outlines(bitmap, (x, y)), (x, y, x + width, y + height)), bitmap)


def centres(height, width):
    return np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1) + 0.5


def on_line(ring, points):
    along, to = np.roll(ring, -1, axis=0) - ring, points[:, :, None] - ring
    return np.abs(to[..., 0] * along[:, 1] - to[..., 1] * along[:, 0]).min(axis=-1) < 1e-9


@given(st.integers(0, 10**6), st.integers(3, 20))
def test_filling_agrees_with_scikit_image(seed, number):
    random = np.random.default_rng(seed)
    angle = np.sort(random.uniform(0, 2 * np.pi, number))
    star = random.uniform(3, 11, 2) + random.uniform(2, 9, (number, 1)) * np.stack([np.cos(angle), np.sin(angle)], 1)
    # scikit-image has pixel centres at whole numbers, and rows before columns.
    np.testing.assert_array_equal(fill([[star]], (0, 0, 14, 13)), polygon2mask((13, 14), star[:, ::-1] - 0.5))


@pytest.mark.slow
@given(rings)
def test_inside_is_what_the_ring_winds_around(ring):
    points = centres(13, 12)
    to = (ring - points[:, :, None]) @ [1, 1j]
    unsure = on_line(ring, points)
    to[unsure] = 1
    winding = np.angle(np.roll(to, -1, axis=-1) / to).sum(axis=-1).round()
    np.testing.assert_array_equal(fill([[ring]], (0, 0, 12, 13)) | unsure, (winding != 0) | unsure)


@pytest.mark.slow
@given(rings, st.tuples(st.integers(-2, 6), st.integers(-2, 6), st.integers(0, 9), st.integers(0, 9)))
def test_a_box_is_a_window(ring, window):
    x, y, width, height = window
    whole = fill([[ring]], (-5, -5, 20, 20))
    part = fill([[ring]], (x, y, x + width, y + height))
    np.testing.assert_array_equal(part, whole[y + 5 : y + 5 + height, x + 5 : x + 5 + width])


@given(st.tuples(st.integers(0, 16), st.integers(0, 16)))
def test_polygons_that_share_edges_share_no_pixel_and_leave_none(point):
    # In halves, so that edges run through pixel centres.
    middle = np.array(point) / 2
    corners = np.array([[0, 0], [8, 0], [8, 8], [0, 8]], float)
    triangles = [[np.stack([corners[i], corners[(i + 1) % 4], middle])] for i in range(4)]
    count = sum(fill([triangle], (0, 0, 8, 8)).astype(int) for triangle in triangles)
    assert (count == 1).all()


@pytest.mark.slow
@given(rings, rings)
def test_polygons_are_joined_and_holes_are_cut_out(one, other):
    box = (0, 0, 12, 13)
    a, b = fill([[one]], box), fill([[other]], box)
    np.testing.assert_array_equal(fill([[one], [other]], box), a | b)
    np.testing.assert_array_equal(fill([[one, other]], box), a & ~b)


def test_vertices_far_away_cost_nothing():
    ring = np.array([[-1e9, -1e9], [3, -1e9], [3, 1e9], [-1e9, 1e9]])
    begin = time.process_time()
    inside = fill([[ring]], (0, 0, 8, 5))
    assert time.process_time() - begin < 5
    np.testing.assert_array_equal(inside, np.arange(8) < np.full((5, 1), 3))


@pytest.mark.parametrize("ring", [np.zeros((0, 2)), [[1, 1]], [[1, 1], [7, 7]], [[3, 3], [3, 3], [3, 3]]])
def test_fewer_than_three_points_enclose_nothing(ring):
    assert not fill([[ring]], (0, 0, 9, 9)).any()
    assert rasterise([[ring]], (9, 9))[1].size == 0


@pytest.mark.slow
@given(rings)
def test_rasterising_is_filling_the_image_cut_to_its_box(ring):
    (x0, y0, x1, y1), bitmap = rasterise([[ring]], (13, 12))
    whole = np.zeros((13, 12), bool)
    whole[y0:y1, x0:x1] = bitmap
    np.testing.assert_array_equal(whole, fill([[ring]], (0, 0, 12, 13)))
    assert bitmap.size == 0 or all(bitmap.any(axis=axis)[[0, -1]].all() for axis in (0, 1))
