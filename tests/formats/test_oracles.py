"""Every reader against another program that draws or decodes the same file, pixel by pixel.

What programs draw outlines of is filled by scikit-image at the centres of pixels; files of pixels are decoded by
pycocotools, SciPy, NumPy, Pillow, tifffile, roifile and OpenCV.
"""

import csv
import json

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from pycocotools import mask as coco_mask
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi
from scipy import io as matlab
from skimage.draw import polygon2mask

from maskseg.formats.registry import formats, readable

from .annotated import read_all

SHAPE = HEIGHT, WIDTH = 60, 90
STEM = "a"


def outlines(chance):
    """Outlines with many corners, concave and slanted, some beyond the edge; none runs through a centre of a pixel."""
    rings = []
    for _ in range(12):
        count = chance.integers(5, 25)
        # So far from each other that no two edges cross.
        angle = (np.arange(count) + chance.uniform(-0.4, 0.4, count)) * 2 * np.pi / count
        reach = chance.uniform(6, 14) * chance.uniform(0.4, 1, count)
        points = (
            chance.uniform((0, 0), (WIDTH, HEIGHT)) + np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None]
        )
        # ImageJ keeps no more digits.
        rings.append(points.astype(np.float32).astype(float))
    return [ring for ring in rings if filled(ring).any()]


def filled(ring, centre=0.5):
    """The pixels whose centre lies inside, by scikit-image."""
    return polygon2mask(SHAPE, ring[:, ::-1] - centre)


# ---- outlines: the file of a program, from rings; what is drawn is the same for all ----


def labelme(folder, rings):
    shapes = [{"label": "x", "points": ring.tolist(), "shape_type": "polygon"} for ring in rings]
    content = {"imagePath": "a.png", "imageHeight": HEIGHT, "imageWidth": WIDTH, "shapes": shapes}
    (folder / "a.json").write_text(json.dumps(content))


def via(folder, rings):
    shapes = [
        {"name": "polygon", "all_points_x": x.tolist(), "all_points_y": y.tolist()} for x, y in map(np.transpose, rings)
    ]
    regions = [{"shape_attributes": shape, "region_attributes": {}} for shape in shapes]
    (folder / "via.json").write_text(json.dumps({"a.png9": {"filename": "a.png", "size": 9, "regions": regions}}))


def labelstudio(folder, rings):
    result = [
        {
            "original_height": HEIGHT, "original_width": WIDTH, "type": "polygonlabels",
            "value": {"points": (ring * (100 / WIDTH, 100 / HEIGHT)).tolist(), "polygonlabels": ["x"]},
        }
        for ring in rings
    ]  # fmt: skip
    (folder / "a.json").write_text(json.dumps([{"data": {"image": "a.png"}, "annotations": [{"result": result}]}]))


def cvat(folder, rings):
    shapes = "".join(f'<polygon label="x" points="{";".join(f"{x},{y}" for x, y in ring)}"/>' for ring in rings)
    image = f'<image id="0" name="a.png" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>'
    (folder / "annotations.xml").write_text(f"<annotations>{image}</annotations>")


def asap(folder, rings):
    def one(ring):
        points = "".join(f'<Coordinate Order="{n}" X="{x}" Y="{y}"/>' for n, (x, y) in enumerate(ring))
        return (
            f'<Annotation Name="n" Type="Polygon" PartOfGroup="None"><Coordinates>{points}</Coordinates></Annotation>'
        )

    inside = "".join(map(one, rings))
    (folder / "a.xml").write_text(f"<ASAP_Annotations><Annotations>{inside}</Annotations></ASAP_Annotations>")


def xml(folder, rings):
    """Aperio's pixels are counted from 1, and their centres are whole numbers, as MATLAB has them."""

    def one(ring):
        vertices = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ring + 0.5)
        return f"<Region><Vertices>{vertices}</Vertices></Region>"

    regions = f"<Regions>{''.join(map(one, rings))}</Regions>"
    (folder / "a.xml").write_text(f'<Annotations><Annotation Id="1">{regions}</Annotation></Annotations>')


def yolo(folder, rings):
    lines = [" ".join(["0", *(f"{share:.12f}" for share in (ring / (WIDTH, HEIGHT)).ravel())]) for ring in rings]
    (folder / "a.txt").write_text("\n".join(lines))


def geojson(folder, rings):
    features = [
        {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()]]}}
        for ring in rings
    ]
    (folder / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))


def imagej(folder, rings):
    for number, ring in enumerate(rings):
        region = ImagejRoi.frompoints(ring.astype(np.float32))
        region.roitype = ROI_TYPE.FREEHAND
        assert region.options & ROI_OPTIONS.SUB_PIXEL_RESOLUTION
        (folder / "a").mkdir(exist_ok=True)
        region.tofile(folder / "a" / f"{number:02}.roi")


OUTLINED = (labelme, via, labelstudio, cvat, asap, xml, yolo, geojson, imagej)


# ---- pixels: the file of a program, and what another one reads in it ----


def label_image(rings):
    labels = np.zeros(SHAPE, np.uint16)
    for number, ring in enumerate(rings, start=1):
        labels[filled(ring)] = 3 * number
    return labels


def each(labels):
    return [labels == value for value in np.unique(labels) if value]


def labels(folder, rings):
    (folder / "masks").mkdir()
    Image.fromarray(label_image(rings)).save(folder / "masks" / "a.png")
    return each(np.asarray(Image.open(folder / "masks" / "a.png")))


def cellpose(folder, rings):
    saved = {"masks": label_image(rings), "outlines": label_image(rings) * 0, "filename": "a.png"}
    np.save(folder / "a_seg.npy", saved, allow_pickle=True)
    return each(np.load(folder / "a_seg.npy", allow_pickle=True).item()["masks"])


def nuinsseg(folder, rings):
    path = folder / "human liver" / "label masks modify" / "a.tif"
    for part in ("tissue images", "label masks modify"):
        (folder / "human liver" / part).mkdir(parents=True)
    cv2.imwrite(str(folder / "human liver" / "tissue images" / "a.png"), np.full(SHAPE, 90, np.uint8))
    tifffile.imwrite(path, label_image(rings).astype(np.float32))
    return each(tifffile.imread(path))


def ctc(folder, rings):
    path = folder / "01_GT" / "SEG" / "man_seg000.tif"
    for part in ("01", "01_GT/SEG"):
        (folder / part).mkdir(parents=True)
    tifffile.imwrite(folder / "01" / "t000.tif", np.full(SHAPE, 90, np.uint8))
    tifffile.imwrite(path, label_image(rings), compression="zlib")
    return each(tifffile.imread(path))


def stacks(folder, rings):
    np.save(folder / "images.npy", np.full((1, *SHAPE, 3), 90, np.uint8))
    np.save(folder / "masks.npy", label_image(rings)[None])
    return each(np.load(folder / "masks.npy")[0])


def mat(folder, rings):
    matlab.savemat(folder / "a.mat", {"inst_map": label_image(rings).astype(float)}, do_compression=True)
    return each(matlab.loadmat(folder / "a.mat")["inst_map"])


def rle(folder, rings):
    """Decoded as Kaggle's forum does: from 1, down the columns."""
    with (folder / "masks.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageId", "EncodedPixels", "Height", "Width"])
        for ring in rings:
            changed = np.flatnonzero(np.diff(np.pad(filled(ring).T.ravel().astype(int), 1)))
            runs = [(start + 1, end - start) for start, end in changed.reshape(-1, 2)]
            writer.writerow([STEM, " ".join(f"{start} {length}" for start, length in runs), HEIGHT, WIDTH])
    decoded = []
    with (folder / "masks.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            flat, numbers = np.zeros(HEIGHT * WIDTH, bool), [int(word) for word in row["EncodedPixels"].split()]
            for start, length in zip(numbers[::2], numbers[1::2], strict=True):
                flat[start - 1 : start - 1 + length] = True
            decoded.append(flat.reshape(SHAPE, order="F"))
    return decoded


def coco(folder, rings):
    """Polygons, which pycocotools draws by a rule of its own, and run lengths."""
    polygons = [[ring.ravel().tolist()] for ring in rings]
    runs = [coco_mask.encode(np.asfortranarray(filled(ring), np.uint8)) for ring in rings]
    drawn = [*(coco_mask.merge(coco_mask.frPyObjects(polygon, *SHAPE)) for polygon in polygons), *runs]
    packed = [{**run, "counts": run["counts"].decode()} for run in runs]
    items = [
        {"id": number, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": one}
        | {"area": float(coco_mask.area(mask)), "bbox": coco_mask.toBbox(mask).tolist()}
        for number, (one, mask) in enumerate(zip([*polygons, *packed], drawn, strict=True), start=1)
    ]
    image = {"id": 1, "file_name": "a.png", "height": HEIGHT, "width": WIDTH}
    content = {"images": [image], "annotations": items, "categories": [{"id": 1, "name": "nucleus"}]}
    (folder / "a.json").write_text(json.dumps(content))
    return [coco_mask.decode(one).astype(bool) for one in drawn]


def hovernet(folder, rings):
    """Contours through the outermost pixels, which OpenCV draws with what they enclose."""
    nuclei, drawn = {}, []
    for number, ring in enumerate(rings):
        contours, _ = cv2.findContours(filled(ring).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contour = max(contours, key=len)
        nuclei[str(number)] = {"contour": contour[:, 0].tolist(), "type": 1, "type_prob": 0.9}
        drawn.append(cv2.drawContours(np.zeros(SHAPE, np.uint8), [contour], 0, 1, cv2.FILLED) > 0)
    (folder / "a.json").write_text(json.dumps({"mag": None, "nuc": nuclei}))
    return drawn


def folders(folder, rings):
    """Of each piece without holes, as Pillow opens its file."""
    (folder / "a" / "images").mkdir(parents=True)
    (folder / "a" / "masks").mkdir()
    Image.new("RGB", SHAPE[::-1]).save(folder / "a" / "images" / "a.png")
    for number, ring in enumerate(rings):
        Image.fromarray(filled(ring)).convert("L").save(folder / "a" / "masks" / f"{number:02}.png")
    return [np.asarray(Image.open(path)) > 0 for path in sorted((folder / "a" / "masks").iterdir())]


OF_PIXELS = (labels, cellpose, nuinsseg, ctc, stacks, mat, rle, coco, hovernet, folders)


def drawn(form, folder):
    """The masks of the one image, as the reader of a format gives them, (N, H, W)."""
    ((_, found),) = read_all(form, folder, SHAPE)[0].items()
    assert not found.left_out
    return [bitmaps(found.masks, index) for index in range(len(found.masks))]


def bitmaps(masks, index):
    whole, (x0, y0, x1, y1) = np.zeros(masks.shape, bool), masks.boxes[index]
    whole[y0:y1, x0:x1] = masks.bitmaps[index]
    return whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("write", [*OUTLINED, *OF_PIXELS], ids=lambda write: write.__name__)
def test_pixels_are_those_of_another_program(tmp_path, write, seed):
    rings = outlines(np.random.default_rng(seed))
    assert len(rings) > 6
    expected = write(tmp_path, rings) or [filled(ring) for ring in rings]
    np.testing.assert_array_equal(drawn(write.__name__, tmp_path), expected)


def test_every_reader_is_compared():
    assert {write.__name__ for write in (*OUTLINED, *OF_PIXELS)} >= set(readable()) - {
        name for name, form in formats().items() if not str(form.reader).startswith("maskseg.")
    }
