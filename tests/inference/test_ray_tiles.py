"""The tiles of one image shared among the processes of a local Ray: the bytes of the local run, whoever is killed."""

import os
import signal

import numpy as np
import pytest
import tifffile

from maskseg.formats import registry
from maskseg.formats.kaggle import NUCLEI
from maskseg.imaging.finding import find_images
from maskseg.inference import tiling
from maskseg.inference.run import Run, Tiles, predict_files
from maskseg.inference.tiled_run import Look, open_large
from tests.inference.test_predictor import predictor
from tests.inference.test_ray_executor import two_workers  # noqa: F401  a fixture
from tests.inference.test_run import contents
from tests.inference.test_tiling import UNSCALED, Marked, marks

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray", reason="Ray, the extra `cluster`, is not installed")

TILES = Tiles(side=96, overlap=68, large=100_000)
FORMATS = ["labels", "geojson", "table", "rle"]


class Deadly(Marked):
    """Kills its process at a call, counted over all processes, or wherever it sees a pixel; `log` says who saw what."""

    def __init__(self, folder, at=0, pixel=None):
        super().__init__()
        self.log, self.at, self.pixel = folder / "log", at, pixel

    def to(self, _device):
        return self

    def inference(self, samples, do_postprocess):
        image = samples[0]["image"].numpy()
        # One write of a short line to a file that is appended to is whole, whoever else writes.
        with self.log.open("a") as file:
            file.write(f"{os.getpid()}\n")
        end = len(seen(self.log)) == self.at
        if self.pixel is not None:
            end = bool((image == np.array(self.pixel)[:, None, None]).all(axis=0).any())
        if end:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().inference(samples, do_postprocess)


def seen(log):
    """The process of each call."""
    return log.read_text().splitlines()


def model_of(network):
    return predictor(network, *UNSCALED, "POSTPROCESS.TTA", "none")


def write_large(path, seed, shape=(500, 420), pixel=None, dtype=np.uint8):
    image = marks(np.random.default_rng(seed), shape, 400)
    if pixel:
        image[shape[0] // 2, shape[1] // 2] = pixel
    path.parent.mkdir(exist_ok=True)
    values = image if dtype == np.uint8 else image[..., 0].astype(dtype) * 100
    photometric = "rgb" if values.ndim == 3 else "minisblack"
    tifffile.imwrite(path, values, tile=(64, 64), photometric=photometric)


def test_of_the_processes_at_one_image_one_is_killed_and_the_bytes_are_those_of_a_local_run(two_workers, tmp_path):  # noqa: F811
    write_large(tmp_path / "images" / "a.tif", 1)
    files, out = find_images([tmp_path / "images"]), tmp_path / "out"
    formats = registry.predicted()
    model = model_of(Deadly(tmp_path, at=13))
    assert predict_files(model, files, out, formats, tiles=TILES, cluster=True) == []
    lines = seen(tmp_path / "log")
    assert len(set(lines)) in (2, 3), "two, and one for that which was killed if it came in time"
    assert len(lines) <= 30 + 4, "no more than a portion is done again"
    assert predict_files(model_of(Marked()), files, tmp_path / "local", formats, tiles=TILES) == []
    assert contents(out) == contents(tmp_path / "local")


def test_more_images_than_processes_go_whole_and_in_tiles_and_bad_ones_are_named_as_locally(two_workers, tmp_path):  # noqa: F811
    for number in range(3):
        write_large(tmp_path / "images" / f"large_{number}.tif", number)
    write_large(tmp_path / "images" / "small.tif", 9, shape=(64, 96))
    whole = (tmp_path / "images" / "large_0.tif").read_bytes()
    (tmp_path / "images" / "torn.tif").write_bytes(whole[: len(whole) * 2 // 3])
    files = find_images([tmp_path / "images"])
    failed = predict_files(model_of(Deadly(tmp_path)), files, tmp_path / "out", FORMATS, tiles=TILES, cluster=True)
    local = predict_files(model_of(Marked()), files, tmp_path / "local", FORMATS, tiles=TILES)
    assert failed == local
    assert [name for name, _ in failed] == ["torn"]
    for name in ("labels", "geojson"):
        for file in (tmp_path / "local" / name).iterdir():
            assert (tmp_path / "out" / name / file.name).read_bytes() == file.read_bytes()
    assert (tmp_path / "out" / "nuclei.csv").read_bytes() == (tmp_path / "local" / "nuclei.csv").read_bytes()


def test_an_image_with_a_tile_that_ends_two_processes_is_left_out_and_the_others_are_done(two_workers, tmp_path):  # noqa: F811
    write_large(tmp_path / "images" / "a.tif", 1, pixel=(7, 255, 255))
    write_large(tmp_path / "images" / "b.tif", 2, shape=(64, 96))
    files = find_images([tmp_path / "images"])
    model = model_of(Deadly(tmp_path, pixel=(7, 255, 255)))
    tiles = Tiles(side=96, overlap=68, large=100_000)
    ((name, reason),) = predict_files(model, files, tmp_path / "out", ["labels"], tiles=tiles, cluster=True)
    assert name == "a"
    assert "a.tif: a tile of it ended two processes" in reason and "--tile" in reason
    assert (tmp_path / "out" / "labels" / "b.tif").is_file()


class Small(Deadly):
    """Takes windows of so many pixels and no more."""

    def inference(self, samples, do_postprocess):
        if samples[0]["image"][0].numel() > 300 * 300:
            raise MemoryError
        return super().inference(samples, do_postprocess)


def test_tiles_that_are_too_large_for_the_memory_of_a_process_are_smaller_for_all(two_workers, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setattr(tiling, "SMALL_SIDE", 96)
    write_large(tmp_path / "images" / "a.tif", 1)
    files = find_images([tmp_path / "images"])
    tiles = Tiles(side=256, overlap=68, large=100_000)
    assert predict_files(model_of(Small(tmp_path)), files, tmp_path / "out", FORMATS, tiles=tiles, cluster=True) == []
    assert len(seen(tmp_path / "log")) == 30
    predict_files(model_of(Marked()), files, tmp_path / "local", FORMATS, tiles=TILES)
    for name in ("labels/a.tif", "geojson/a.geojson", "nuclei.csv", "submission.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "local" / name).read_bytes()


def test_an_interrupted_run_goes_on_where_it_was_also_without_a_cluster(two_workers, tmp_path, monkeypatch):  # noqa: F811
    write_large(tmp_path / "images" / "a.tif", 3)
    files, out = find_images([tmp_path / "images"]), tmp_path / "out"

    def interrupted(tallies, *_args, **_kwargs):
        for number, tally in enumerate(tallies):
            if number == 8:
                raise KeyboardInterrupt
            yield tally

    model = model_of(Deadly(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(tiling, "tqdm", interrupted)
        with pytest.raises(KeyboardInterrupt):
            predict_files(model, files, out, FORMATS, tiles=TILES, cluster=True)
    before = len(seen(tmp_path / "log"))
    assert 8 <= before < 30
    assert predict_files(model, files, out, FORMATS, tiles=TILES) == []
    # What was just at work may be done twice.
    assert len(seen(tmp_path / "log")) <= 30 + 2
    predict_files(model_of(Marked()), files, tmp_path / "local", FORMATS, tiles=TILES)
    assert contents(out) == contents(tmp_path / "local")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_process_is_sent_what_is_found_in_the_whole_image_and_does_not_look_for_it(dtype, tmp_path, monkeypatch):
    write_large(tmp_path / "images" / "a.tif", 4, dtype=dtype)
    (file,) = find_images([tmp_path / "images"])
    run = Run(tmp_path / "out", [file], ["labels"], None, None, TILES, NUCLEI)
    model = predictor(Marked(), *UNSCALED, "INPUT.NORMALIZE", "auto")
    here = open_large(run, model, file).image
    look = Look.of(here)
    assert look.exposure and (look.file_limits is None) == (dtype == np.uint8)
    here.predict()
    expected = [part.read_bytes() for part in sorted(here.parts.iterdir())]
    monkeypatch.setattr("maskseg.imaging.windows.samples_in_parts", None)
    monkeypatch.setattr("maskseg.imaging.slides.limits_in_parts", None)
    there = open_large(run, model, file, look).image
    there.parts = tmp_path / "there"
    assert len(list(there.tally(range(len(there.tiling))))) == len(expected)
    assert [part.read_bytes() for part in sorted(there.parts.iterdir())] == expected
