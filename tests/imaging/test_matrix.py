"""Container x photometric x sample type x planes: read right, whole and in tiles, or refused in one clear line.

The table in docs/images.md is what this test finds; ``MASKSEG_WRITE_DOCS=1 pytest tests/imaging/test_matrix.py``
writes it anew.
"""

import io
import os
from functools import partial
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from skimage.color import rgb2lab

from maskseg.core.errors import InputError
from maskseg.imaging.channels import Choice
from maskseg.imaging.reading import ImageFile, to_rgb8
from maskseg.imaging.slides import open_source

DOCS = Path(__file__).parents[2] / "docs" / "images.md"
BEGIN, END = "<!-- matrix: written by tests/imaging/test_matrix.py -->\n", "<!-- end of the matrix -->\n"
SHAPE = (45, 70)


def nuclei(seed=0):
    """Soft blobs on a dark background, uint8 (45, 70)."""
    rng = np.random.default_rng(seed)
    image = np.zeros(SHAPE, np.float32)
    for _ in range(9):
        cv2.circle(image, (int(rng.integers(70)), int(rng.integers(45))), int(rng.integers(3, 8)), 1, -1)
    return np.rint(20 + 200 * cv2.GaussianBlur(image, (0, 0), 1.5)).astype(np.uint8)


GREY, OTHER = nuclei(), nuclei(1)
COLOUR = np.dstack([255 - GREY // 2, 255 - GREY, 255 - GREY // 3])
# Each type holds the same picture on its own scale.
TYPES = {
    "bool": GREY > 99,
    "uint8": GREY,
    "int8": (GREY.astype(int) - 128).astype(np.int8),
    "uint16": GREY.astype(np.uint16) * 200 + 300,
    "int16": (GREY.astype(np.int16) - 90) * 120,
    "uint32": GREY.astype(np.uint32) * 70000,
    "int32": (GREY.astype(np.int32) - 90) * 70000,
    "float16": (GREY / 255).astype(np.float16),
    "float32": (GREY / 255).astype(np.float32),
    "float32 with NaN": np.where(np.indices(SHAPE)[0] == 3, np.nan, GREY / 255).astype(np.float32),
    "float64": GREY / 9.0 - 3,
    "complex64": GREY.astype(np.complex64),
}
TIFFS = {
    "TIFF, strips": {},
    "TIFF, deflate strips": {"compression": "zlib", "rowsperstrip": 16},
    "TIFF, LZW tiles": {"compression": "lzw", "tile": (16, 32)},
    "BigTIFF, tiles, big-endian": {"bigtiff": True, "tile": (32, 16), "byteorder": ">"},
    "OME-TIFF": {"ome": True},
    "ImageJ TIFF": {"imagej": True},
}


def shown(values):
    """A picture of values as it is read; None if it is refused."""
    return None if values.dtype.kind == "c" else to_rgb8(values)


def tiff(pixels, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def of_tiffs():
    """Rows of TIFF: container, photometric, sample type, planes, and how it is written and what it should show."""
    for container, options in TIFFS.items():
        for kind, values in TYPES.items():
            yield (
                container,
                "black is zero",
                kind,
                "one",
                lambda v=values, o=options: tiff(v, photometric="minisblack", **o),
                shown(values),
            )
    for container, options in list(TIFFS.items())[:4]:
        for kind, values in TYPES.items():

            def inverted(values=values, options=options):
                return tiff(values, photometric="miniswhite", **options)

            if values.dtype.kind == "f":
                dark = (1 - values).astype(values.dtype)
            else:
                dark = ~values if values.dtype.kind in "biu" else values
            yield container, "white is zero", kind, "one", inverted, shown(dark)
        for kind in ("uint8", "uint16", "float32"):
            colour = COLOUR.astype(kind) * (200 if kind == "uint16" else 1)
            rgb = {"photometric": "rgb", **options}
            planes = np.moveaxis(colour, 2, 0)
            alpha = np.dstack([colour, colour[..., :1]])
            plain, apart = {"planarconfig": "contig"}, {"planarconfig": "separate"}
            yield container, "RGB", kind, "one", lambda c=colour, o=rgb, m=plain: tiff(c, **o, **m), shown(colour)
            yield (
                container,
                "RGB, planar",
                kind,
                "one",
                lambda c=planes, o=rgb, m=apart: tiff(c, **o, **m),
                shown(colour),
            )
            of_alpha = {**rgb, "extrasamples": ["unassalpha"]}
            yield container, "RGB with alpha", kind, "one", lambda c=alpha, o=of_alpha: tiff(c, **o), shown(colour)
            unsaid = {**rgb, "extrasamples": ["unspecified"]}
            yield container, "RGB and one more", kind, "one", lambda c=alpha, o=unsaid: tiff(c, **o), None
        yield container, "palette", "uint8", "one", lambda o=options: palette(o), COLOUR_OF_PALETTE
    for container, options in {"TIFF, strips": {}, "TIFF, LZW strips": {"compression": "tiff_lzw"}}.items():
        for mode, name in {"YCbCr": "YCbCr", "LAB": "L*a*b*", "CMYK": "CMYK", "P": "palette of few colours"}.items():
            expected = FEW_COLOURS if mode == "P" else COLOUR
            yield container, name, "uint8", "one", lambda m=mode, o=options: pillow("TIFF", m, **o), expected
    yield "TIFF, JPEG tiles", "YCbCr", "uint8", "one", lambda: jpeg_tiff(), COLOUR
    yield "TIFF, strips", "CMYK", "uint16", "one", cmyk16, shown(COLOUR.astype(np.uint16) * 257)
    yield "TIFF, strips", "L*a*b*", "uint16", "one", lab16, COLOUR


def palette(options):
    table = np.stack([np.arange(256), np.arange(256)[::-1], np.arange(256) // 2]).astype(np.uint16) * 257
    return tiff(GREY, photometric="palette", colormap=table, **options)


FEW_COLOURS = np.asarray(Image.fromarray(COLOUR).convert("P").convert("RGB"))
COLOUR_OF_PALETTE = np.dstack([GREY, 255 - GREY, GREY // 2])


def pillow(kind, mode, pixels=COLOUR, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    if mode == "LAB":
        lab = rgb2lab(pixels)
        signed = np.rint(lab[..., 1:]).astype(np.int8).view(np.uint8)
        image = Image.fromarray(np.dstack([np.rint(lab[..., 0] * 2.55).astype(np.uint8), signed]), "LAB")
    else:
        image = image.convert(mode)
    image.save(file, kind, **options)
    return file.getvalue()


def jpeg_tiff():
    return tiff(
        COLOUR, photometric="rgb", compression="jpeg", compressionargs={"level": 98}, subsampling=(1, 1), tile=(32, 32)
    )


def cmyk16():
    inks = np.dstack([65535 - COLOUR.astype(np.uint16) * 257, np.zeros(SHAPE, np.uint16)])
    return tiff(inks, photometric="separated", planarconfig="contig")


def lab16():
    lab = rgb2lab(COLOUR)
    light = np.rint(lab[..., 0] * 655.35).astype(np.uint16)
    signed = np.rint(lab[..., 1:] * 256).astype(np.int16).view(np.uint16)
    return tiff(np.dstack([light, signed]), photometric="cielab", planarconfig="contig")


def of_planes():
    """Rows of images with several channels or planes."""
    two, three = np.stack([GREY, OTHER]), np.stack([GREY, OTHER, OTHER // 2])
    alone = np.stack([GREY * 0, GREY * 0 + 7, GREY])
    bright = np.moveaxis(COLOUR, 2, 0)
    for container, options in {"OME-TIFF": {"ome": True}, "ImageJ TIFF": {"imagej": True}}.items():
        for kind in ("uint8", "uint16"):

            def written(planes, axes, kind=kind, options=options):
                return tiff(
                    np.asarray(planes).astype(kind), photometric="minisblack", metadata={"axes": axes}, **options
                )

            first, highest = shown(GREY.astype(kind)), shown(three.max(axis=0).astype(kind))
            for content, planes, axes, *wanted in (
                ("2 channels", two, "CYX", None),
                ("3 channels", three, "CYX", None),
                ("3 channels, one of them not empty", alone, "CYX", first),
                ("2 channels, --channel 0", two, "CYX", first, "0", None),
                ("3 z", three, "ZYX", None),
                ("3 t", three, "TYX", None),
                ("3 z, z=0", three, "ZYX", first, None, "z=0"),
                ("3 z, z=max", three, "ZYX", highest, None, "z=max"),
            ):
                yield container, "black is zero", kind, content, partial(written, planes, axes), *wanted
        yield container, "transmitted light", "uint8", "3 channels", lambda w=written: w(bright, "CYX", "uint8"), COLOUR
    pages = partial(tiff, two, photometric="minisblack")
    strips = ("TIFF, strips", "black is zero", "uint8")
    yield *strips, "2 pages", pages, None
    yield *strips, "2 pages, z=1", pages, shown(OTHER), None, "z=1"
    yield *strips, "2 pages, --channel 1", pages, shown(OTHER), "1", None


def of_pictures():
    """Rows of formats that are decoded as a whole."""
    wide = COLOUR.astype(np.uint16) * 200
    for container, kind, options in (
        ("PNG", "PNG", {}), ("BMP", "BMP", {}), ("GIF", "GIF", {}), ("JPEG", "JPEG", {"quality": 98, "subsampling": 0}),
        ("WebP", "WEBP", {"lossless": True}), ("JPEG 2000", "JPEG2000", {}), ("PNM", "PPM", {}), ("TGA", "TGA", {}),
    ):  # fmt: skip
        grey = {"pixels": GREY, **options}
        yield container, "grey", "uint8", "one", lambda k=kind, o=grey: pillow(k, "L", **o), shown(GREY)
        if kind != "GIF":
            yield container, "RGB", "uint8", "one", lambda k=kind, o=options: pillow(k, "RGB", **o), COLOUR
        blue = {"pixels": np.dstack([GREY * 0, GREY * 0, GREY]), **options}
        yield container, "blue on black", "uint8", "one", lambda k=kind, o=blue: pillow(k, "RGB", **o), shown(GREY)
    yield "PNG", "palette", "uint8", "one", lambda: pillow("PNG", "P"), FEW_COLOURS
    yield "PNG", "RGB with alpha", "uint8", "one", lambda: pillow("PNG", "RGBA"), COLOUR
    yield "PNG", "grey", "bool", "one", lambda: pillow("PNG", "1", pixels=(GREY > 99) * np.uint8(255)), shown(GREY > 99)
    yield (
        "PNG",
        "grey",
        "uint16",
        "one",
        lambda: cv2.imencode(".png", TYPES["uint16"])[1].tobytes(),
        shown(TYPES["uint16"]),
    )
    yield "PNG", "RGB", "uint16", "one", lambda: cv2.imencode(".png", wide[..., ::-1])[1].tobytes(), shown(wide)
    yield "JPEG", "CMYK", "uint8", "one", lambda: pillow("JPEG", "CMYK", quality=98), COLOUR
    yield "JPEG 2000", "RGB", "uint16", "one", lambda: imagecodecs.jpeg2k_encode(wide, level=0), shown(wide)
    yield "GIF", "palette", "uint8", "2 frames", two_frames, None
    yield "GIF", "palette", "uint8", "2 frames, t=1", two_frames, shown(OTHER), None, "t=1"


def two_frames():
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "GIF", save_all=True, append_images=[Image.fromarray(OTHER)])
    return file.getvalue()


# What decoders and conversions may differ by, of 255.
CLOSE = {"YCbCr": 3, "L*a*b*": 4, "CMYK": 6}
LOSSY = {"JPEG", "GIF", "TIFF, JPEG tiles"}
ROWS = [row if len(row) == 8 else (*row, None, None) for rows in (of_tiffs, of_planes, of_pictures) for row in rows()]


def outcome(row, folder):
    """What becomes of a row: "read", or why it is refused; raises where it is read wrong."""
    container, photometric, _, _, write, expected, channel, plane = row
    path = folder / ("a.ome.tif" if container == "OME-TIFF" else "a.img")
    try:
        path.write_bytes(write())
    except (ValueError, TypeError, OSError, NotImplementedError, tifffile.OmeXmlError):
        return "not written"  # what no program writes is not read
    file = ImageFile("a", path, choice=Choice.parse(channel, plane))
    try:
        whole = file.read()
    except InputError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(f"{path}: ")
        with pytest.raises(InputError) as in_parts:
            source = open_source(file).source
            source.read((0, 0, source.shape[1], source.shape[0]))
        assert "damaged" not in str(in_parts.value)
        assert expected is None, error
        return "refused: " + str(error).removeprefix(f"{path}: ").replace("it holds ", "").split(";")[0]
    assert expected is not None, f"{row[:4]} is read and should not be"
    assert file.size() == whole.shape[:2] == SHAPE
    tolerance = CLOSE.get(photometric, 1) if container not in LOSSY else 12
    assert np.abs(whole.astype(int) - expected).max() <= tolerance, row[:4]
    source = open_source(file).source
    for box in ((0, 0, 70, 45), (13, 7, 41, 40), (69, 44, 70, 45)):
        x0, y0, x1, y1 = box
        assert np.abs(source.read(box).astype(int) - whole[y0:y1, x0:x1]).max() <= 1, row[:4]
    return "read"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_kind_is_read_right_or_refused_and_the_table_says_so(tmp_path):
    found, wrong = {}, []
    for row in ROWS:
        try:
            found[row[:4]] = outcome(row, tmp_path)
        except AssertionError as error:
            wrong.append(f"{row[:4]}: {str(error).splitlines()[0]}")
    assert not wrong, "\n".join(wrong)
    assert len(found) == len(ROWS)
    assert sum(result == "read" for result in found.values()) > 200
    text = DOCS.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    new = before + BEGIN + table(found) + END + after
    if os.environ.get("MASKSEG_WRITE_DOCS"):
        DOCS.write_text(new, encoding="utf-8")
    assert new == text or os.environ.get("MASKSEG_WRITE_DOCS"), "write docs/images.md anew; see above"


def table(found):
    """Markdown: a line for each container, photometric and planes, with the sample types that have the same outcome."""
    lines = {}
    for (container, photometric, kind, planes), result in found.items():
        if result != "not written":
            lines.setdefault((container, photometric, planes, result), []).append(kind)
    rows = [f"| {' | '.join((*key[:2], ', '.join(kinds), *key[2:]))} |\n" for key, kinds in lines.items()]
    return "| container | photometric | sample types | planes | outcome |\n|---|---|---|---|---|\n" + "".join(rows)
