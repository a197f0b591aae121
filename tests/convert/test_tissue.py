import csv
import filecmp
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from maskseg.convert.tissue import MIN_PIXELS, convert_tissue, fates
from maskseg.core.errors import InputError
from maskseg.data.dataset import load_coco
from maskseg.imaging.reading import read_image


def box(x0, y0, x1, y1, attributes=""):
    """A region over the pixels x0..x1, y0..y1, end exclusive, whose vertices are counted from 1."""
    corners = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    vertices = "".join(f'<Vertex X="{x + 0.5}" Y="{y + 0.5}"/>' for x, y in corners)
    return f"<Region {attributes}><Vertices>{vertices}</Vertices></Region>"


@pytest.fixture
def make(tmp_path):
    """A function that makes a tissue image of 40 x 60 pixels with regions and returns both folders."""

    def make(name="t", *regions, layers=None, scale='MicronsPerPixel="0.25"'):
        for folder in ("tissue", "xml"):
            (tmp_path / folder).mkdir(exist_ok=True)
        image = np.random.default_rng(len(name)).integers(0, 255, (40, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / "tissue" / f"{name}.tif"), image)
        parts = [
            f'<Annotation Id="1" Name="{layer}"><Regions>{"".join(items)}</Regions></Annotation>'
            for layer, items in (layers or {"": regions}).items()
        ]
        (tmp_path / "xml" / f"{name}.xml").write_text(f"<Annotations {scale}>{''.join(parts)}</Annotations>")
        return tmp_path / "tissue", tmp_path / "xml"

    return make


def run(source, out, **options):
    summary = convert_tissue(*source, out, progress=False, **options)
    with (out / "regions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows == summary.rows
    assert len(rows) == summary.annotation_count
    return summary, [(row["fate"], row["pieces"]) for row in rows], [row["why"] for row in rows]


def masks_of(out):
    data = load_coco(out)
    return {image["file_name"]: data.masks(image) for image in data.images}


def test_pieces_are_the_image_cut_in_four(make, tmp_path):
    source = make("t", box(2, 2, 12, 12), box(25, 15, 35, 25))
    summary, met, _ = run(source, tmp_path / "out")
    assert (summary.images, summary.masks, summary.annotation_count, summary.left_out) == (4, 5, 2, [])
    assert met == [("kept", "t_0_0"), ("divided", "t_0_0 t_0_1 t_1_0 t_1_1")]
    whole = read_image(source[0] / "t.tif")
    labels = np.zeros((40, 60), int)
    for image in load_coco(tmp_path / "out").images:
        row, column = map(int, image["file_name"].removesuffix(".png").split("_")[1:])
        window = slice(20 * row, 20 * row + 20), slice(30 * column, 30 * column + 30)
        np.testing.assert_array_equal(read_image(tmp_path / "out/images" / image["file_name"]), whole[window])
        assert (image["group"], image["microns_per_pixel"]) == ("t", 0.25)
        labels[window] = masks_of(tmp_path / "out")[image["file_name"]].to_labels() > 0
    expected = np.zeros((40, 60), int)
    expected[2:12, 2:12] = expected[15:25, 25:35] = 1
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize("pieces", [1, 3, 7])
def test_every_pixel_is_in_one_piece(make, tmp_path, pieces):
    source = make("t", box(0, 0, 60, 40), scale="")
    summary, ((fate, names),), _ = run(source, tmp_path / "out", pieces=pieces)
    masks = masks_of(tmp_path / "out")
    assert summary.images == summary.masks == len(masks) == pieces**2
    assert sum(part.areas.sum() for part in masks.values()) == 40 * 60
    assert {side for part in masks.values() for side in part.shape} == {
        size // pieces + extra for size in (40, 60) for extra in {0, int(size % pieces > 0)}
    }
    assert fate == ("divided" if pieces > 1 else "kept")
    assert {f"{name}.png" for name in names.split()} == set(masks)
    assert "microns_per_pixel" not in load_coco(tmp_path / "out").images[0]


def test_the_smaller_region_has_the_pixel(make, tmp_path):
    inside, around, beside = box(4, 4, 8, 8, 'Id="5"'), box(2, 2, 12, 12, 'Id="6"'), box(10, 10, 20, 18, 'Id="7"')
    _, met, why = run(make("t", around, inside, beside), tmp_path / "out")
    assert met == [("clipped", "t_0_0"), ("kept", "t_0_0"), ("kept", "t_0_0")]
    assert why == ["20 pixels lie under region 5, region 7", "", ""]
    assert masks_of(tmp_path / "out")["t_0_0.png"].areas.tolist() == [80, 16, 80]


def test_a_region_drawn_twice_is_one_nucleus(make, tmp_path):
    regions = [box(2, 2, 12, 12, 'Id="5"'), box(2, 2, 12, 12, 'Id="6"'), box(3, 2, 12, 13, 'Id="7"')]
    summary, met, why = run(make("t", *regions), tmp_path / "out")
    assert [fate for fate, _ in met].count("dropped") == 2
    assert summary.masks == 1
    assert all("more than half" in text for (fate, _), text in zip(met, why, strict=True) if fate == "dropped")
    assert [item.kind for item in summary.left_out] == ["region dropped"] * 2


def test_slivers_at_a_cut_are_dropped(make, tmp_path):
    # The image is cut at 30: one column of nine pixels and one of ten lie beyond it. What was drawn smaller stays.
    source = make("t", box(22, 2, 31, 1 + MIN_PIXELS), box(20, 30, 31, 30 + MIN_PIXELS), box(40, 2, 42, 4))
    _, met, why = run(source, tmp_path / "out")
    assert met == [("clipped", "t_0_0"), ("divided", "t_1_0 t_1_1"), ("kept", "t_0_1")]
    assert why == ["9 pixels are slivers", "", ""]


def test_what_lies_beyond_the_image_is_clipped_or_dropped(make, tmp_path):
    source = make("t", box(-3, 2, 5, 8), box(70, 2, 75, 8), box(0, 32, 8, 40))
    summary, met, why = run(source, tmp_path / "out")
    assert [fate for fate, _ in met] == ["clipped", "dropped", "kept"]
    assert why[0] == "reaches beyond the image"
    assert [item.reason for item in summary.left_out] == ["region 2: no pixel of the image inside it"]


def test_holes_are_cut_out_and_counted_apart(make, tmp_path):
    source = make("t", box(2, 2, 12, 12, 'Id="5"'), box(4, 4, 8, 8, 'NegativeROA="1"'))
    summary, met, why = run(source, tmp_path / "out")
    assert met == [("kept", "t_0_0"), ("hole", "t_0_0")]
    assert why == ["", "cut out of region 5"]
    assert fates(summary) == "1 kept, 0 clipped, 0 divided, 1 hole, 0 dropped"
    assert masks_of(tmp_path / "out")["t_0_0.png"].areas.tolist() == [84]


def test_layers_are_chosen_by_name(make, tmp_path):
    layers = {"epithelial": [box(2, 2, 12, 12)], "stromal": [box(32, 2, 42, 12)]}
    source = make("t", layers=layers)
    make("u", layers={"other": [box(2, 2, 12, 12)]})
    summary, met, why = run(source, tmp_path / "out", layers=["stromal"])
    assert met == [("dropped", ""), ("kept", "t_0_1"), ("dropped", "")]
    assert why[0] == "its layer is not wanted"
    # An image without such a layer is not an image without nuclei.
    (fault,) = summary.left_out
    assert "its layers are other" in fault.reason
    assert summary.images == 4
    assert run(source, tmp_path / "all")[0].masks == 3


def test_the_offset_moves_the_regions(make, tmp_path):
    source = make("t", box(2, 2, 12, 12))
    run(source, tmp_path / "out", offset=(2, 0))
    assert masks_of(tmp_path / "out")["t_0_0.png"].boxes.tolist() == [[5, 3, 15, 13]]


def test_each_fault_is_a_line_and_the_rest_is_done(make, tmp_path):
    names = ("good", "empty", "cut", "bomb", "two", "lonely", "widow")
    for name in names:
        source = make(name, box(2, 2, 12, 12), box(32, 2, 42, 12))
    tissue, xml = source
    (tissue / "empty.tif").write_bytes(b"")
    (xml / "cut.xml").write_text((xml / "cut.xml").read_text()[:-30])
    (xml / "bomb.xml").write_text('<!DOCTYPE x [<!ENTITY a "b">]><Annotations>&a;</Annotations>')
    (xml / "two.xml").write_text((xml / "two.xml").read_text().replace('<Vertex X="2.5" Y="12.5"/>', "", 1))
    (xml / "lonely.xml").unlink()
    (tissue / "widow.tif").unlink()
    text = (xml / "two.xml").read_text()
    (xml / "two.xml").write_text(text.replace('<Vertex X="12.5" Y="12.5"/>', "", 1))
    summary, met, _ = run(source, tmp_path / "out")
    assert summary.images == 8
    assert summary.masks == 3
    # Regions of images that are left out are accounted for as far as they can be read.
    assert [fate for fate, _ in met] == ["dropped"] * 2 + ["kept"] * 2 + ["dropped", "kept"] + ["dropped"] * 2
    told = {item.file.rpartition("/")[2]: item.reason for item in summary.left_out}
    expected = {
        "bomb.tif": "entities",
        "cut.tif": "malformed",
        "empty.tif": "the file is empty",
        "lonely.tif": "no lonely.xml",
        "two.xml": "region 1: 2 points",
        "widow.xml": "no image of that name",
    }
    assert set(told) == set(expected)
    for name, text in expected.items():
        assert text in told[name]
        assert len(told[name].splitlines()) == 1


def test_zip_files_are_read_and_processes_change_nothing(make, tmp_path):
    for name in ("a", "b", "c"):
        source = make(name, box(2, 2, 12, 12), box(28, 18, 42, 32), box(-4, 30, 10, 50))
    run(source, tmp_path / "out")
    shutil.make_archive(str(tmp_path / "both"), "zip", tmp_path, "tissue")
    with zipfile.ZipFile(tmp_path / "both.zip", "a") as file:
        for path in source[1].iterdir():
            file.write(path, f"xml/{path.name}")
    run((tmp_path / "both.zip", tmp_path / "both.zip"), tmp_path / "zipped", workers=2)
    names = [
        "annotations.json",
        "regions.csv",
        *(f"images/{path.name}" for path in (tmp_path / "out/images").iterdir()),
    ]
    assert len(names) == 14
    assert filecmp.cmpfiles(tmp_path / "out", tmp_path / "zipped", names, shallow=False)[0] == names


@pytest.mark.parametrize("bad", ["no folder", "no xml", "no pair", "too small", "no layer"])
def test_what_cannot_be_converted_at_all_is_one_line(make, tmp_path, bad):
    tissue, xml = make("t", box(2, 2, 12, 12))
    if bad == "no folder":
        xml = tmp_path / "none"
    elif bad == "no xml":
        (xml / "t.xml").unlink()
    elif bad == "no pair":
        (xml / "t.xml").rename(xml / "u.xml")
    with pytest.raises(InputError) as error:
        layers = ["none"] if bad == "no layer" else []
        pieces = 41 if bad == "too small" else 2
        convert_tissue(tissue, xml, tmp_path / "out", pieces=pieces, layers=layers, progress=False)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "out" / "annotations.json").exists()


def test_a_second_file_of_a_name_costs_only_itself(make, tmp_path):
    tissue, xml = make("t", box(2, 2, 12, 12))
    for folder, name in ((tissue, "t.tif"), (xml, "t.xml")):
        (folder / "more").mkdir()
        shutil.copy(folder / name, folder / "more")
    # MoNuSAC's slides, beside the pictures that its scripts make of them.
    (tissue / "t.svs").write_bytes(b"a slide")
    summary = convert_tissue(tissue, xml, tmp_path / "out", progress=False)
    assert (summary.images, summary.masks) == (4, 1)
    assert sorted(Path(one.file).relative_to(tmp_path).parts[0] for one in summary.left_out) == ["tissue", "xml"]


def test_a_layer_without_a_name_has_that_of_its_attribute(make, tmp_path):
    source = make("t", layers={"x": [box(2, 2, 12, 12)], "y": [box(32, 2, 42, 12)], "z": [box(22, 22, 32, 32)]})
    path = source[1] / "t.xml"
    text = path.read_text()
    for layer, attributes in (
        ("x", '<Attribute Name="Epithelial" Id="0" Value=""/>'),
        ("y", '<Attribute Name="Description" Id="0" Value=""/>'),
        ("z", '<Attribute Name="Description" Id="0" Value="Ambiguous"/>'),
    ):
        text = text.replace(f'Name="{layer}">', f'Name=""><Attributes>{attributes}</Attributes>')
    path.write_text(text)
    assert [row["layer"] for row in run(source, tmp_path / "all")[0].rows] == ["Epithelial", "1", "Ambiguous"]
    assert run(source, tmp_path / "one", layers=["Epithelial"])[0].masks == 1
    with pytest.raises(InputError, match="--layer Epitelial: no file has that layer; there are 1, Ambiguous, Epithel"):
        convert_tissue(*source, tmp_path / "none", layers=["Epithelial", "Epitelial"], progress=False)


def test_an_image_of_which_no_outline_can_be_used_is_left_out(make, tmp_path):
    source = make("t", box(102, 102, 112, 112))
    make("u", box(2, 2, 12, 12))
    summary, met, _ = run(source, tmp_path / "out")
    assert summary.images == 4
    assert "none of its 1 outlines can be used" in summary.left_out[0].reason
    assert met == [("dropped", ""), ("kept", "u_0_0")]
