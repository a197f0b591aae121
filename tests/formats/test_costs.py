"""What outlines of one image may cost, and numbers of any length, with every reader of outlines."""

import base64
import io
import json
import time
import tracemalloc
import zipfile
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from PIL import Image
from roifile import ImagejRoi

from maskseg.core.errors import InputError
from maskseg.core.rle import runs_to_coco, runs_to_kaggle
from maskseg.formats.costs import Costs
from maskseg.formats.label_studio import brush
from maskseg.formats.registry import formats

from .annotated import read_all

SIDE = 2048
# Masks of all of so small an image, of which no more are drawn.
MOST = 16
WHOLE = [(-8, -8), (SIDE + 8, -8), (SIDE + 8, SIDE + 8), (-8, SIDE + 8)]
SMALL = [(100, 100), (120, 100), (120, 130), (100, 130)]
ZIGZAG = [(place % 7, 9 * SIDE * (place % 2)) for place in range(4000)]


def as_json(path, content):
    path.write_text(json.dumps(content))


def geojson(folder, outlines, side):
    geometries = [{"type": "Polygon", "coordinates": [list(one)]} for one in outlines]
    as_json(folder / "a.geojson", [{"type": "Feature", "geometry": one, "properties": {}} for one in geometries])


def labelme(folder, outlines, side):
    shapes = [{"label": "cell", "points": list(one), "shape_type": "polygon"} for one in outlines]
    as_json(folder / "a.json", {"shapes": shapes, "imagePath": "a.png", "imageHeight": side, "imageWidth": side})


def via(folder, outlines, side):
    lists = [list(zip(*one, strict=True)) for one in outlines]
    shapes = [{"name": "polygon", "all_points_x": list(xs), "all_points_y": list(ys)} for xs, ys in lists]
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    as_json(folder / "a.json", {"a": {"filename": "a.png", "size": 1, "regions": regions}})


def labelstudio(folder, outlines, side):
    def share(value):
        return value if abs(value) > 1e9 else value * 100 / side

    values = [{"points": [[share(x), share(y)] for x, y in one], "polygonlabels": ["cell"]} for one in outlines]
    results = [{"value": one, "original_width": side, "original_height": side} for one in values]
    as_json(folder / "a.json", [{"data": {"image": "a.png"}, "annotations": [{"result": results}]}])


def hovernet(folder, outlines, side):
    as_json(folder / "a.json", {"nuc": {str(place): {"contour": list(one)} for place, one in enumerate(outlines)}})


def coco(folder, outlines, side):
    items = [
        {"id": place, "image_id": 1, "segmentation": [[value for point in one for value in point]]}
        for place, one in enumerate(outlines)
    ]
    images = [{"id": 1, "file_name": "a.png", "height": side, "width": side}]
    as_json(folder / "a.json", {"images": images, "annotations": items, "categories": []})


def yolo(folder, outlines, side):
    def share(value):
        return value if abs(value) > 1e9 else value / side

    lines = ["0 " + " ".join(f"{share(value)}" for point in one for value in point) for one in outlines]
    (folder / "a.txt").write_text("\n".join(lines))


def cvat(folder, outlines, side):
    points = [";".join(f"{x},{y}" for x, y in one) for one in outlines]
    shapes = "".join(f"<polygon label='cell' points={quoteattr(one)}/>" for one in points)
    image = f"<image id='0' name='a.png' width='{side}' height='{side}'>{shapes}</image>"
    (folder / "a.xml").write_text(f"<annotations>{image}</annotations>")


def asap(folder, outlines, side):
    points = ["".join(f"<Coordinate X='{x}' Y='{y}'/>" for x, y in one) for one in outlines]
    regions = "".join(f"<Annotation Type='Polygon'><Coordinates>{one}</Coordinates></Annotation>" for one in points)
    (folder / "a.xml").write_text(f"<ASAP_Annotations><Annotations>{regions}</Annotations></ASAP_Annotations>")


def xml(folder, outlines, side):
    points = ["".join(f"<Vertex X='{x}' Y='{y}'/>" for x, y in one) for one in outlines]
    regions = "".join(f"<Region><Vertices>{one}</Vertices></Region>" for one in points)
    (folder / "a.xml").write_text(f"<Annotations><Annotation><Regions>{regions}</Regions></Annotation></Annotations>")


def imagej(folder, outlines, side):
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for place, one in enumerate(outlines):
            archive.writestr(f"{place}.roi", ImagejRoi.frompoints(np.array(one, np.float32)).tobytes())


OUTLINES = [geojson, labelme, via, labelstudio, hovernet, coco, yolo, cvat, asap, xml, imagej]
# Regions of ImageJ are numbers of four bytes.
WRITTEN = [form for form in OUTLINES if form is not imagej]


def read(form, folder, shape, draw=None):
    name = form if isinstance(form, str) else form.__name__
    assert name in formats()
    items, _ = read_all(name, folder, shape)
    (nuclei,) = items.values()
    return nuclei


@pytest.mark.parametrize("form", OUTLINES)
def test_outlines_of_many_times_the_image_are_refused_and_small_ones_kept(form, tmp_path):
    form(tmp_path, [*[WHOLE] * 30, SMALL], SIDE)
    begin = time.process_time()
    nuclei = read(form, tmp_path, (SIDE, SIDE))
    assert time.process_time() - begin < 15
    assert 1 < len(nuclei.masks) <= MOST
    assert len(nuclei.masks) + len(nuclei.left_out) == 31
    assert nuclei.masks.areas[-1] < 1000
    assert "a box of" in nuclei.left_out[0].reason


@pytest.mark.parametrize("form", OUTLINES)
def test_a_line_that_goes_up_and_down_is_refused_before_it_is_drawn(form, tmp_path):
    zigzag = [(place % 7, SIDE * (place % 2)) for place in range(4000)] if form in (imagej, hovernet) else ZIGZAG
    form(tmp_path, [zigzag, SMALL], SIDE)
    tracemalloc.start()
    nuclei = read(form, tmp_path, (SIDE, SIDE))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6
    assert len(nuclei.masks) == 1 and nuclei.masks.areas[0] < 1000
    assert "up and down" in nuclei.left_out[0].reason


@pytest.mark.parametrize("digits", [400, 5000])
@pytest.mark.parametrize("form", WRITTEN)
def test_a_whole_number_of_any_length_leaves_out_its_annotation_alone(form, digits, tmp_path):
    marker = 123456789012345678901234567890
    form(tmp_path, [[*SMALL[:-1], (100, marker)], SMALL], SIDE)
    for path in tmp_path.iterdir():
        path.write_text(path.read_text().replace(str(marker), "1" + "0" * digits))
    nuclei = read(form, tmp_path, (SIDE, SIDE))
    assert len(nuclei.masks) == 1 and nuclei.masks.areas[0] < 1000
    assert len(nuclei.left_out) == 1


def masks_of_cvat(folder, count):
    shapes = f"<mask label='cell' rle='0,{SIDE * SIDE}' left='0' top='0' width='{SIDE}' height='{SIDE}'/>" * count
    small = "<mask label='cell' rle='0,4' left='5' top='5' width='2' height='2'/>"
    image = f"<image id='0' name='a.png' width='{SIDE}' height='{SIDE}'>{shapes}{small}</image>"
    (folder / "a.xml").write_text(f"<annotations>{image}</annotations>")
    return "cvat"


def masks_of_labelme(folder, count):
    def shape(side):
        file = io.BytesIO()
        Image.fromarray(np.full((side, side), 255, np.uint8)).save(file, "png")
        mask = base64.b64encode(file.getvalue()).decode()
        return {"label": "cell", "points": [[0, 0], [side - 1, side - 1]], "shape_type": "mask", "mask": mask}

    as_json(folder / "a.json", {"shapes": [shape(SIDE)] * count + [shape(2)], "imagePath": "a.png"})
    return "labelme"


RUNS = [np.array([[0], [SIDE * SIDE]]), np.array([[5 * SIDE + 5, 6 * SIDE + 5], [2, 2]])]


def masks_of_coco(folder, count):
    whole, small = (runs_to_coco(*runs, (SIDE, SIDE)) for runs in RUNS)
    items = [{"id": i, "image_id": 1, "segmentation": one} for i, one in enumerate([whole] * count + [small])]
    as_json(folder / "a.json", {"images": [{"id": 1, "file_name": "a.png"}], "annotations": items})
    return "coco"


def masks_of_kaggle(folder, count, names="ImageId,EncodedPixels"):
    whole, small = (runs_to_kaggle(*runs) for runs in RUNS)
    rows = [f"a,{one}" for one in [whole] * count + [small]]
    (folder / "submission.csv").write_text("\n".join([names, *rows]))
    return "rle"


def masks_of_hubmap(folder, count):
    return masks_of_kaggle(folder, count, "id,annotation")


def painted(runs, side):
    """A brush of Label Studio with runs of up to 65,536 values, along the rows."""
    bits = [f"{4 * side * side:032b}", f"{7:05b}", *(f"{one - 1:04b}" for one in (3, 4, 8, 16))]
    place = 0
    for start, length in (*runs, (side * side, 0)):
        for value, left in ((0, 4 * (start - place)), (255, 4 * length)):
            while left:
                count = min(left, 1 << 16)
                bits.append(f"111{count - 1:016b}{value:08b}")
                left -= count
        place = start + length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return [int(text[at : at + 8], 2) for at in range(0, len(text), 8)]


def masks_of_label_studio(folder, count):
    values = [painted([(0, SIDE * SIDE)], SIDE)] * count + [painted([(5 * SIDE + 5, 2), (6 * SIDE + 5, 2)], SIDE)]
    results = [{"value": {"rle": one}, "original_width": SIDE, "original_height": SIDE} for one in values]
    as_json(folder / "a.json", [{"data": {"image": "a.png"}, "annotations": [{"result": results}]}])
    return "labelstudio"


def ellipses_of_via(folder, count):
    whole = {"name": "ellipse", "cx": SIDE // 2, "cy": SIDE // 2, "rx": SIDE, "ry": SIDE}
    small = {"name": "circle", "cx": 6, "cy": 6, "r": 1}
    regions = [{"shape_attributes": one, "region_attributes": {}} for one in [whole] * count + [small]]
    as_json(folder / "a.json", {"a": {"filename": "a.png", "size": 1, "regions": regions}})
    return "via"


MASKS = [masks_of_cvat, masks_of_labelme, masks_of_coco, masks_of_kaggle, masks_of_hubmap, masks_of_label_studio]


@pytest.mark.parametrize("write", [*MASKS, ellipses_of_via])
def test_masks_of_many_times_the_image_are_refused_and_small_ones_kept(write, tmp_path):
    nuclei = read(write(tmp_path, 30), tmp_path, (SIDE, SIDE))
    assert 1 < len(nuclei.masks) <= MOST
    assert len(nuclei.masks) + len(nuclei.left_out) == 31
    assert nuclei.masks.areas[-1] == 4


@pytest.mark.parametrize("write", MASKS)
def test_small_masks_of_a_large_image_cost_their_own_boxes(write, tmp_path):
    """Nuclei in columns as high as the image, or painted on all of it, are as many as they are."""
    name = write(tmp_path, 0)
    for path in tmp_path.iterdir():
        text = path.read_text()
        if path.suffix == ".csv":
            head, row = text.split("\n")
            path.write_text("\n".join([head, *[row] * 500]))
        elif path.suffix == ".json":
            data = json.loads(text)
            items = data[0]["annotations"][0]["result"] if isinstance(data, list) else None
            items = data.get("shapes") or data.get("annotations") if items is None else items
            items *= 50
            as_json(path, data)
    nuclei = read(name, tmp_path, (SIDE, SIDE))
    assert not nuclei.left_out and set(nuclei.masks.areas.tolist()) == {4}


@pytest.mark.parametrize("form", OUTLINES)
def test_a_slide_of_nuclei_is_read_whole(form, tmp_path):
    corners = [(x, y) for x in range(0, 20000, 500) for y in range(0, 20000, 500)]
    form(tmp_path, [[(x, y), (x + 400, y), (x + 400, y + 400), (x, y + 400)] for x, y in corners[:300]], 20000)
    nuclei = read(form, tmp_path, (20000, 20000))
    assert len(nuclei.masks) == 300 and not nuclei.left_out


def test_a_region_of_many_holes_takes_the_boxes_of_these(tmp_path):
    holes = [[(x, y), (x + 2, y), (x + 2, y + 2), (x, y + 2)] for x in range(2, 500, 5) for y in range(2, 150, 5)]
    geometry = {"type": "Polygon", "coordinates": [WHOLE, *holes]}
    as_json(tmp_path / "a.geojson", [{"type": "Feature", "geometry": geometry, "properties": {}}])
    begin = time.process_time()
    nuclei = read("geojson", tmp_path, (SIDE, SIDE))
    assert time.process_time() - begin < 15
    assert nuclei.masks.areas.tolist() == [SIDE * SIDE - 4 * len(holes)]


def test_pieces_that_lie_far_apart_and_holes_in_all_nuclei_are_counted(tmp_path):
    def region(points, more="", nucleus=""):
        vertices = "".join(f"<Vertex X='{x}' Y='{y}'/>" for x, y in points)
        attribute = f"<Attributes><Attribute Name='nucleus number' Value='{nucleus}'/></Attributes>" if nucleus else ""
        return f"<Region{more}>{attribute}<Vertices>{vertices}</Vertices></Region>"

    far = [(x + SIDE - 200, y + SIDE - 200) for x, y in SMALL]
    pieces = [region(one, nucleus=str(place)) for place in range(1, 30) for one in (SMALL, far)]
    hole = [(105, 105), (110, 105), (110, 110), (105, 110)]
    others = [region(SMALL)] * 700 + [region(hole, " NegativeROA='1'")] * 700
    text = "".join([*pieces, *others])
    (tmp_path / "a.xml").write_text(f"<Annotations><Annotation><Regions>{text}</Regions></Annotation></Annotations>")
    begin = time.process_time()
    nuclei = read("xml", tmp_path, (SIDE, SIDE))
    assert time.process_time() - begin < 30
    assert nuclei.masks.areas.tolist().count(20 * 30 - 25) == 700
    assert any("a box of" in one.reason for one in nuclei.left_out)


def test_a_brush_of_many_runs_takes_time_by_their_number():
    side = 1000
    numbers = painted([(place, 1) for place in range(0, 200_000, 3)], side)
    begin = time.process_time()
    found = brush(numbers, (side, side))
    assert time.process_time() - begin < 6
    assert found.ravel()[:200_000:3].all() and found.sum() == len(range(0, 200_000, 3))


def test_polygons_of_one_annotation_are_united_in_time_by_their_number(tmp_path):
    polygons = [[x, y, x + 1, y, x + 1, y + 1, x, y + 1] for x in range(0, 2000, 20) for y in range(0, 2000, 12)]
    item = {"id": 1, "image_id": 1, "segmentation": polygons}
    as_json(tmp_path / "a.json", {"images": [{"id": 1, "file_name": "a.png"}], "annotations": [item]})
    begin = time.process_time()
    nuclei = read("coco", tmp_path, (SIDE, SIDE))
    assert time.process_time() - begin < 12
    assert nuclei.masks.areas[0] == len(polygons)


def test_what_is_refused_does_not_count():
    costs = Costs((SIDE, SIDE))
    for _ in range(20):
        with pytest.raises(InputError, match="too large"):
            costs.take_pixels(1 << 28)
        with pytest.raises(InputError, match="up and down"):
            costs.take_length(float("nan"))
    costs.take_pixels(SIDE * SIDE)


def test_a_mark_around_a_large_image_with_holes_in_it_is_borne_out_by_the_image():
    side = 9000
    costs = Costs((side, side))
    whole = np.array([(0, 0), (side, 0), (side, side), (0, side)], float)
    assert costs.take_rings([whole, whole / 2], (side, side)) == (0, 0, side, side)
    costs.take_rings([whole / 9], (side, side))
