"""A data set packed and unpacked."""

import io
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_coco, load_record
from maskseg.data.pack import pack, packed_image, unpack, unpacked_image
from maskseg.data.split import write_split
from maskseg.imaging.reading import read_image
from tests.fixtures.converting import convert_folders as convert


@pytest.fixture
def dataset(make_folder, tmp_path):
    """Twelve images of noise with up to three nuclei, in two parts."""
    for number in range(12):
        folder = make_folder(f"image{number:02}", nuclei=number % 4)
        noise = np.random.default_rng(number).integers(0, 256, (40, 50, 4), np.uint8)
        cv2.imwrite(str(next((folder / "images").iterdir())), noise)
    convert(tmp_path / "source", tmp_path / "set", modalities={"image03": "tissue"}, progress=False)
    rows = [{"image_id": f"image{i:02}", "part": ("train", "dev")[i % 2]} for i in range(12)]
    write_split(tmp_path / "set" / "split.csv", rows)
    return tmp_path / "set"


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_same(one: str, other: str) -> None:
    for first, second in zip(dataset_dicts(one), dataset_dicts(other), strict=True):
        for ours, theirs in zip(load_record(first), load_record(second), strict=True):
            assert np.array_equal(ours, theirs)
        assert {**first, "file_name": ""} == {**second, "file_name": ""}


def test_a_pack_reads_as_the_data_set_and_comes_back_exactly(dataset, tmp_path):
    result = pack(dataset, tmp_path / "pack", progress=False)
    assert (result.images, result.masks, result.left_out) == (12, 18, [])
    before, after = content(dataset), content(tmp_path / "pack")
    assert result.bytes_before == sum(map(len, before.values()))
    assert result.bytes_after == sum(map(len, after.values())) < result.bytes_before
    assert set(after) == {"annotations.json.gz", "split.csv", *(f"images/image{i:02}.webp" for i in range(12))}
    for part in ("", ":train", ":dev"):
        assert_same(f"{dataset}{part}", f"{tmp_path / 'pack'}{part}")
    unpack(tmp_path / "pack", tmp_path / "again", progress=False)
    assert_same(str(dataset), str(tmp_path / "again"))
    again = content(tmp_path / "again")
    assert set(again) == set(before)
    assert json.loads(again["annotations.json"]) == json.loads(before["annotations.json"])
    assert again["split.csv"] == before["split.csv"]


def test_the_files_are_the_same_whatever_the_number_of_processes(dataset, tmp_path):
    # Sixteen images, that two processes are worth starting.
    path = dataset / "annotations.json"
    data = json.loads(path.read_text())
    for number in range(4):
        data["images"].append({**data["images"][number], "id": 100 + number, "file_name": f"more{number}.png"})
        (dataset / "images" / f"more{number}.png").write_bytes(
            (dataset / "images" / f"image0{number}.png").read_bytes()
        )
    path.write_text(json.dumps(data))
    for workers in (1, 2):
        assert pack(dataset, tmp_path / f"pack{workers}", workers, progress=False).images == 16
    assert content(tmp_path / "pack1") == content(tmp_path / "pack2")


def test_what_no_command_knows_is_carried_along(dataset, tmp_path):
    path = dataset / "annotations.json"
    data = json.loads(path.read_text())
    data["info"] = {"licence": "CC0"}
    data["images"][2]["microns_per_pixel"] = 0.25
    path.write_text(json.dumps(data))
    pack(dataset, tmp_path / "pack", progress=False)
    assert load_coco(tmp_path / "pack").images[2]["microns_per_pixel"] == 0.25
    unpack(tmp_path / "pack", tmp_path / "again", progress=False)
    assert json.loads((tmp_path / "again" / "annotations.json").read_text()) == data


def encoded(pixels, kind, **settings) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **settings)
    return buffer.getvalue()


def tiff(pixels, **settings) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **settings)
    return buffer.getvalue()


SMOOTH = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 65536, (90, 70, 3), np.uint16), (0, 0), 5)
SMOOTH8 = (SMOOTH >> 8).astype(np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "name", "suffix"),
    [
        (encoded(SMOOTH8, "PNG"), "x.png", ".webp"),
        (encoded(SMOOTH8[..., 0], "PNG"), "x.png", ".webp"),
        (encoded(np.dstack([SMOOTH8, SMOOTH8[..., 0]]), "PNG"), "x.png", ".webp"),
        (tiff(SMOOTH8, photometric="rgb"), "x.tif", ".webp"),
        (tiff(SMOOTH8[..., 0] > 128), "x.TIF", ".webp"),
        # Larger as WebP than with the loss that they have.
        (encoded(SMOOTH8, "JPEG"), "x.JPG", ".JPG"),
        # More than WebP holds.
        (cv2.imencode(".png", SMOOTH)[1].tobytes(), "x.png", ".png"),
        (cv2.imencode(".png", SMOOTH[..., 0])[1].tobytes(), "x.png", ".png"),
        (tiff(SMOOTH[..., 0]), "x.tif", ".tif"),
        (tiff(SMOOTH, photometric="rgb"), "x.tif", ".tif"),
        (tiff(SMOOTH.transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), "x.tif", ".tif"),
        (tiff(SMOOTH[..., 0], photometric="miniswhite", byteorder=">"), "x.tif", ".tif"),
        (tiff(SMOOTH[..., 0].astype(np.float32)), "x.tiff", ".tiff"),
        (encoded(np.zeros((2, 16384), np.uint8), "PNG"), "x.png", ".png"),
    ],
)
def test_each_kind_of_image_in_the_form_that_holds_it(data, name, suffix):
    packed, ending = packed_image(data, name)
    assert ending == suffix
    assert len(packed) <= len(data)
    pixels = read_image(data)
    assert np.array_equal(read_image(packed), pixels)
    if suffix.startswith(".tif"):
        assert len(packed) < 0.9 * len(data)
        assert np.array_equal(tifffile.imread(io.BytesIO(packed)), tifffile.imread(io.BytesIO(data)))
    elif suffix != ".webp":
        assert packed == data
    unpacked, ending = unpacked_image(packed, f"x{ending}")
    assert np.array_equal(read_image(unpacked), pixels)
    assert (ending == ".png") == (suffix in (".webp", ".png"))


def test_an_image_that_cannot_be_read_is_left_out_and_named(dataset, tmp_path):
    (dataset / "images" / "image03.png").write_bytes(b"\x89PNG")
    (dataset / "images" / "image05.png").unlink()
    result = pack(dataset, tmp_path / "pack", progress=False)
    assert [Path(line.split(":")[0]).name for line in result.left_out] == ["image03.png", "image05.png"]
    assert (result.images, result.masks) == (10, 14)
    kept = {record["image_id"] for record in dataset_dicts(str(tmp_path / "pack"))}
    assert kept == {f"image{i:02}" for i in range(12)} - {"image03", "image05"}
    for path in (dataset / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"no image in it can be read.*image00\.png"):
        pack(dataset, tmp_path / "none", progress=False)
    assert not (tmp_path / "none" / "annotations.json.gz").exists()


def test_a_disk_that_is_full_is_no_bad_image(dataset, tmp_path):
    # A file where the folder of the images should be, which no user may write below.
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "images").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        pack(dataset, tmp_path / "pack", progress=False)


def test_a_data_set_is_not_mixed_with_another(dataset, tmp_path):
    pack(dataset, tmp_path / "pack", progress=False)
    for change, source, target in (
        (pack, dataset, dataset),
        (unpack, tmp_path / "pack", tmp_path / "pack"),
        (pack, tmp_path / "pack", tmp_path / "new"),
        (unpack, dataset, tmp_path / "new"),
        (unpack, tmp_path / "missing", tmp_path / "new"),
    ):
        before = content(tmp_path)
        with pytest.raises(InputError):
            change(source, target, progress=False)
        assert content(tmp_path) == before


@pytest.mark.parametrize("name", ["image00.tif", "IMAGE00.png", "../image00.png"])
def test_names_that_would_meet_or_lead_outside_are_refused(dataset, tmp_path, name):
    path = dataset / "annotations.json"
    data = json.loads(path.read_text())
    data["images"][1]["file_name"] = name
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match="rename it"):
        pack(dataset, tmp_path / "pack", progress=False)
    assert not (tmp_path / "pack").exists()
