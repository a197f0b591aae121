"""Nucleus, ring and cell in every channel of the file, whole and in tiles."""

import csv
import math

import anndata
import cv2
import numpy as np
import pytest
import tifffile
from scipy.ndimage import distance_transform_edt
from skimage.segmentation import expand_labels

from maskseg.core.errors import InputError
from maskseg.core.files import LEFTOVER
from maskseg.formats.labels import read_labels
from maskseg.formats.measures import Measures, texture
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.inference.run import Tiles, predict_files
from tests.inference.test_predictor import predictor
from tests.inference.test_tiling import UNSCALED, Marked, marks

FORMATS = ["table", "labels", "anndata", "parquet"]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def grey_marks(rng, shape):
    """An image of marks in grey, each size, and so each score, once."""
    image = marks(rng, shape, 300)[..., 0]
    _, first = np.unique(image, return_index=True)
    kept = np.zeros_like(image)
    kept.flat[first] = image.flat[first]
    return kept


def means_of(row, part):
    return [float(row[f"{part}intensity_mean_{channel}"] or "nan") for channel in range(4)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One image of four channels with names, as a whole and in tiles; its pixels and the folder of each run."""
    folder = tmp_path_factory.mktemp("measures")
    rng = np.random.default_rng(8)
    nuclei = grey_marks(rng, (280, 240))
    pixels = np.stack([nuclei // 2 + 3, nuclei, *rng.integers(0, 255, (2, *nuclei.shape))]).astype(np.uint8)
    tifffile.imwrite(
        folder / "a.ome.tif",
        pixels,
        tile=(32, 32),
        photometric="minisblack",
        metadata={
            "axes": "CYX",
            "Channel": {"Name": ["CD3", "DAPI", "CD8", "Ki67"]},
            "PhysicalSizeX": 0.5,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeY": 0.5,
            "PhysicalSizeYUnit": "µm",
        },
    )
    model = predictor(Marked(), *UNSCALED, "INPUT.NORMALIZE", "off")
    for name, large in (("whole", 10**9), ("tiled", 1000)):
        files = find_images([folder / "a.ome.tif"], Choice("DAPI"))
        tiles, measures = Tiles(side=64, overlap=68, large=large), Measures.parse("2um", texture=True)
        assert predict_files(model, files, folder / name, FORMATS, tiles=tiles, measures=measures) == []
    return pixels, folder / "whole", folder / "tiled"


@pytest.mark.slow
def test_every_channel_of_nucleus_ring_and_cell(runs):
    pixels, whole, _ = runs
    (path,) = (whole / "labels").iterdir()
    labels = read_labels(path)
    far = np.array([distance_transform_edt(labels != label) for label in range(1, labels.max() + 1)])
    # Of what is equally near the first has the pixel.
    grown = np.where(far.min(axis=0) <= 4, far.argmin(axis=0) + 1, 0)
    np.testing.assert_array_equal(grown > 0, expand_labels(labels, 4) > 0)
    rows = rows_of(whole / "nuclei.csv")
    assert len(rows) > 20
    for row in rows:
        nucleus, cell = labels == int(row["label"]), grown == int(row["label"])
        np.testing.assert_allclose(means_of(row, ""), pixels[:, nucleus].mean(axis=1), rtol=1e-6)
        assert float(row["intensity_std_2"]) == pytest.approx(pixels[2][nucleus].std(), rel=1e-6)
        assert int(row["ring_area"]) + int(row["area"]) == int(row["cell_area"])
        assert float(row["cell_area_um2"]) == int(row["cell_area"]) / 4
        for name, part in (("cell_", cell), ("ring_", cell & ~nucleus)):
            theirs = pixels[:, part].mean(axis=1) if part.any() else [math.nan] * 4
            np.testing.assert_allclose(means_of(row, name), theirs, rtol=1e-6)


@pytest.mark.slow
def test_tiles_measure_what_the_whole_image_measures(runs):
    _, whole, tiled = runs
    found = []
    for run in (whole, tiled):
        rows = rows_of(run / "nuclei.csv")
        # Of two nuclei the one that comes first has what is equally near to both; they come in another order.
        tied = [key for key in rows[0] if key.startswith(("ring", "cell"))]
        keys = [key for key in rows[0] if key not in ("label", *tied)]
        found.append({tuple(row[key] for key in keys): [float(row[key] or "nan") for key in tied] for row in rows})
        assert [int(row["label"]) for row in rows] == sorted(int(row["label"]) for row in rows)
    one, other = found
    assert one.keys() == other.keys()
    same = sum(np.allclose(values, other[key], equal_nan=True) for key, values in one.items())
    assert same > len(one) / 2
    assert sum(values[0] for values in one.values()) == sum(values[0] for values in other.values())


def test_anndata_has_channels_layers_and_places(runs):
    _, whole, _ = runs
    data, rows = anndata.read_h5ad(whole / "nuclei.h5ad"), rows_of(whole / "nuclei.csv")
    assert data.var_names.tolist() == ["CD3", "DAPI", "CD8", "Ki67"]
    assert data.shape == (len(rows), 4) and set(data.layers) == {"ring", "cell"}
    for layer, name in ((data.X, ""), (data.layers["ring"], "ring_"), (data.layers["cell"], "cell_")):
        theirs = [[float(row[f"{name}intensity_mean_{channel}"] or "nan") for channel in range(4)] for row in rows]
        np.testing.assert_allclose(layer, theirs, rtol=1e-5)
    places = [[float(row["centroid_x"]), float(row["centroid_y"])] for row in rows]
    np.testing.assert_allclose(data.obsm["spatial"], places, rtol=1e-6)
    assert data.obs["label"].tolist() == [int(row["label"]) for row in rows]
    assert set(data.obs["image_id"]) == {rows[0]["image_id"]}


def test_what_anndata_writes_is_swept_where_the_run_is_killed(tmp_path, monkeypatch):
    image = marks(np.random.default_rng(1), (200, 200), 30)
    tifffile.imwrite(tmp_path / "a.tif", image, photometric="rgb")
    places = []

    def killed(data, path):
        places.append(path.parent)
        raise KeyboardInterrupt

    monkeypatch.setattr(anndata.AnnData, "write_h5ad", killed)
    model = predictor(Marked(), *UNSCALED)
    with pytest.raises(KeyboardInterrupt):
        predict_files(model, find_images([tmp_path / "a.tif"]), tmp_path / "out", ["anndata"])
    (place,) = places
    assert place.parent == tmp_path / "out"
    assert LEFTOVER.fullmatch(place.name)


@pytest.mark.slow
def test_images_of_other_numbers_of_channels_are_in_one_table(runs, tmp_path):
    image = marks(np.random.default_rng(1), (200, 200), 30)
    tifffile.imwrite(tmp_path / "grey.tif", image[..., 0])
    for name, count in (("two", 2), ("five", 5)):
        many = np.stack([image[..., 0]] * count)
        tifffile.imwrite(tmp_path / f"{name}.tif", many, photometric="minisblack", metadata={"axes": "CYX"})
    files = find_images([tmp_path / "grey.tif", tmp_path / "five.tif", tmp_path / "two.tif"], Choice("0"))
    model = predictor(Marked(), *UNSCALED, "INPUT.NORMALIZE", "off")
    assert predict_files(model, files, tmp_path / "out", ["table", "anndata"]) == []
    counts = {}
    for row in rows_of(tmp_path / "out" / "nuclei.csv"):
        values = [row[f"intensity_mean_{channel}"] for channel in range(5)]
        counts[row["image_id"]] = sum(map(bool, values))
        assert len(set(values) - {""}) == 1
    assert counts == {"grey": 1, "two": 2, "five": 5}
    assert np.isnan(anndata.read_h5ad(tmp_path / "out" / "nuclei.h5ad").X).any()


def test_micrometres_of_an_image_of_unknown_size_leave_it_out(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), marks(np.random.default_rng(1), (200, 200), 30)[..., ::-1])
    model, files = predictor(Marked(), *UNSCALED), find_images([tmp_path / "a.png"])
    ((_, reason),) = predict_files(model, files, tmp_path / "out", ["table"], measures=Measures.parse("5um"))
    assert "--microns-per-pixel" in reason and "a.png" in reason
    known = predict_files(
        model, files, tmp_path / "out", ["table"], measures=Measures.parse("5um"), microns_per_pixel=1.0
    )
    assert known == [] and int(rows_of(tmp_path / "out" / "nuclei.csv")[0]["ring_area"]) > 0


@pytest.mark.parametrize(("text", "pixels"), [("5", 5), ("2.5um", 5), (" 2.5 µm", 5), ("3px", 3), ("1e1", 10)])
def test_distances(text, pixels):
    assert Measures.parse(text).pixels("a", 0.5) == pixels


@pytest.mark.parametrize("text", ["", "um", "0", "-3", "five", "nan", "inf", "5 mm"])
def test_what_is_no_distance_is_one_line(text):
    with pytest.raises(InputError, match="--expand"):
        Measures.parse(text)


def test_a_distance_that_is_a_slip_of_units_is_refused():
    with pytest.raises(InputError, match="at most"):
        Measures.parse("5000um").pixels("a.png", 0.5)


def test_texture_tells_fine_from_coarse_and_not_bright_from_dark():
    rng = np.random.default_rng(0)
    fine = rng.integers(0, 1000, (24, 24, 1)).astype(float)
    coarse = cv2.GaussianBlur(fine[..., 0], (0, 0), 4)[..., None]
    disk = np.hypot(*(np.mgrid[:24, :24] - 11.5)) < 11
    a, b, brighter = (texture(disk, values) for values in (fine, coarse, 3 * coarse + 50))
    assert a["contrast"][0] > 2 * b["contrast"][0] and a["correlation"][0] < b["correlation"][0]
    assert a["std"][0] == pytest.approx(fine[disk].std())
    for name in ("contrast", "correlation", "energy", "homogeneity"):
        assert brighter[name][0] == pytest.approx(b[name][0], rel=0.02)


def test_texture_of_one_pixel_of_one_value_and_of_no_number():
    alone = texture(np.ones((1, 1), bool), np.full((1, 1, 2), 7))
    assert alone["std"] == [0, 0] and alone["contrast"] == [None, None]
    flat = texture(np.ones((4, 4), bool), np.full((4, 4, 1), 7))
    assert flat["contrast"] == [0] and flat["energy"] == [1] and math.isfinite(flat["correlation"][0])
    assert texture(np.ones((2, 2), bool), np.full((2, 2, 1), np.nan))["energy"] == [None]
