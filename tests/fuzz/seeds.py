"""Small files of every kind that is read, made by code: what the fuzzers spoil."""

import io
import json
import struct
import zipfile

import imagecodecs
import numpy as np
import roifile
import tifffile
from PIL import Image

from maskseg.core.masks import CropMasks
from maskseg.formats.labels import write_labels

PIXELS = (np.arange(20 * 24 * 3).reshape(20, 24, 3) * 7 % 251).astype(np.uint8)
OUTLINE = [[2.0, 3.0], [9.0, 3.0], [9.0, 8.0], [2.0, 8.0]]


def masks():
    """Two nuclei in 20 x 24 pixels."""
    labels = np.zeros((20, 24), np.int32)
    labels[2:8, 3:9], labels[10:15, 12:20] = 1, 2
    return CropMasks.from_labels(labels)


def _tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def _levels(**options):
    file = io.BytesIO()
    with tifffile.TiffWriter(file, **options) as writer:
        writer.write(np.kron(PIXELS, np.ones((4, 4, 1), np.uint8)), subifds=1, tile=(16, 16), photometric="rgb")
        writer.write(np.kron(PIXELS, np.ones((2, 2, 1), np.uint8)), subfiletype=1, tile=(16, 16), photometric="rgb")
    return file.getvalue()


def _picture(kind, mode="RGB", **options):
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, kind, **options)
    return file.getvalue()


def tiffs():
    """TIFF of several makes."""
    wide = PIXELS[..., 0].astype(np.uint16) * 200
    return [
        _tiff(PIXELS, photometric="rgb"),
        _tiff(wide, compression="zlib"),
        _tiff(wide, bigtiff=True, byteorder=">", tile=(16, 16)),
        _tiff(PIXELS, photometric="rgb", compression="jpeg", tile=(16, 16)),
        _tiff(np.stack([wide] * 3), imagej=True, metadata={"axes": "CYX"}),
        _tiff(np.stack([wide] * 3), ome=True, metadata={"axes": "ZYX"}),
        _levels(),
        _levels(bigtiff=True, ome=True),
    ]


def pictures():
    """All that is decoded as a whole."""
    kinds = [_picture(kind) for kind in ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TGA", "PPM")]
    frames = [Image.fromarray(PIXELS), Image.fromarray(PIXELS[::-1])]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    wide = imagecodecs.png_encode(PIXELS.astype(np.uint16) * 200)
    return [*kinds, _picture("PNG", "P"), animated.getvalue(), wide, imagecodecs.jpeg2k_encode(PIXELS)]


def label_files(folder):
    """Label images by their ending."""
    write_labels(folder / "seed.tif", masks().to_labels())
    np.save(folder / "seed.npy", masks().to_labels())
    Image.fromarray(masks().to_labels().astype(np.uint8)).save(folder / "seed.png")
    return {path.suffix: path.read_bytes() for path in sorted(folder.glob("seed.*"))}


def coco():
    """A data set of two images, polygons and run lengths."""
    area = {"bbox": [2, 3, 7, 5], "area": 35, "iscrowd": 0, "category_id": 1}
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 20, "width": 24, "modality": "x"}],
        "categories": [{"id": 1, "name": "nucleus"}],
        "annotations": [
            {"id": 1, "image_id": 1, "segmentation": [[x for point in OUTLINE for x in point]], **area},
            {"id": 2, "image_id": 1, "segmentation": {"size": [20, 24], "counts": [63, 4, 413]}, **area},
            {"id": 3, "image_id": 1, "segmentation": {"size": [20, 24], "counts": "n14Tm0"}, **area, "score": 0.5},
        ],
    }


def geojson():
    """Two nuclei, one with a hole."""
    hole = [[4.0, 4.0], [6.0, 4.0], [6.0, 6.0], [4.0, 4.0]]
    polygon = {"type": "Polygon", "coordinates": [[*OUTLINE, OUTLINE[0]], hole]}
    several = {"type": "MultiPolygon", "coordinates": [[[*OUTLINE, OUTLINE[0]]]]}
    properties = {"classification": {"name": "Tumor"}, "objectType": "annotation"}
    features = [{"type": "Feature", "geometry": item, "properties": properties} for item in (polygon, several)]
    return {"type": "FeatureCollection", "features": features}


def xml():
    """Outlines of Aperio."""
    vertices = "".join(f'<Vertex X="{x}" Y="{y}" Z="0"/>' for x, y in OUTLINE)
    region = f'<Region Id="1" Type="0"><Vertices>{vertices}</Vertices></Region>'
    return (
        '<?xml version="1.0"?><Annotations MicronsPerPixel="0.25"><Annotation Id="1">'
        f"<Regions>{region}</Regions></Annotation></Annotations>"
    ).encode()


def imagej():
    """A region, and a zip file of two."""
    region = roifile.ImagejRoi.frompoints(np.array(OUTLINE)).tobytes()
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("1.roi", region)
        archive.writestr("2.roi", region)
    return file.getvalue()


def rle():
    """A submission."""
    return b"ImageId,EncodedPixels\na,3 4 40 5\na,100 7\nb,\n"


def safetensors():
    """Weights with metadata."""
    header = {
        "__metadata__": {"config": "MODEL:\n  MASK_ON: true\n", "format": "pt"},
        "a.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(24)
