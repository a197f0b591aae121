"""Many images to files: failures are named, and an interrupted run goes on."""

import csv
import resource
import subprocess
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import roifile
import tifffile
import torch
import zarr
from pyarrow import parquet
from scipy import ndimage

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco
from maskseg.formats import registry
from maskseg.formats.geojson import read_geojson
from maskseg.formats.labels import read_labels
from maskseg.formats.submission_check import check_submission
from maskseg.imaging.channels import Choice
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import ImageFile
from maskseg.inference import run as batch
from maskseg.inference.run import predict_files
from tests.fixtures.mixture import write_mixture
from tests.fixtures.squares import Squares, Stub

# All that is not slow to write.
QUICK = [name for name in registry.predicted() if name not in ("overlay", "zarr")]


def contents(folder):
    """Bytes of every file, hidden ones too; of images.csv all but the seconds."""
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    rows = csv.DictReader(found.pop("images.csv").decode().splitlines())
    return found | {"images.csv": [row | {"seconds": ""} for row in rows]}


@pytest.mark.slow
def test_every_format_is_written_and_the_submission_is_valid(images, tmp_path):
    files = find_images([images])
    assert predict_files(Squares(), files, tmp_path / "out", registry.predicted(), microns_per_pixel=0.5) == []
    assert check_submission(tmp_path / "out" / "submission.csv", {file.id: (20, 30) for file in files}) == []
    assert read_labels(tmp_path / "out" / "labels" / "image_2.tif").sum() == 25
    assert read_labels(tmp_path / "out" / "labels" / "image_0.tif").sum() == 0
    predicted = load_coco(tmp_path / "out" / "predictions.json")
    assert [image["file_name"] for image in predicted.images] == [f"image_{n}.png" for n in range(5)]
    assert [int(predicted.masks(image).areas.sum()) for image in predicted.images] == [0, 25, 25, 25, 25]
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    assert [row["nuclei"] for row in rows] == ["0", "1", "1", "1", "1"]
    assert sorted(path.name for path in (tmp_path / "out" / "overlays").iterdir()) == [
        f"image_{n}.png" for n in range(5)
    ]
    assert read_geojson(tmp_path / "out" / "geojson" / "image_2.geojson", (20, 30)).areas.tolist() == [25]
    (region,) = roifile.roiread(tmp_path / "out" / "imagej" / "image_2.zip")
    assert (region.left, region.top, region.right, region.bottom) == (6, 2, 11, 7)
    assert 'd="M6 2H11V7H6Z"' in (tmp_path / "out" / "svg" / "image_2.svg").read_text()
    nuclei = list(csv.DictReader((tmp_path / "out" / "nuclei.csv").open()))
    assert [row["image_id"] for row in nuclei] == [f"image_{n}" for n in range(1, 5)]
    assert {(row["area"], row["area_um2"]) for row in nuclei} == {("25", "6.25")}
    assert [float(row["intensity_mean_0"]) for row in nuclei] == [3, 6, 9, 12]
    assert parquet.read_table(tmp_path / "out" / "nuclei.parquet")["x0"].to_pylist() == [3, 6, 9, 12]
    assert zarr.open_group(tmp_path / "out" / "zarr" / "image_2.zarr", mode="r")["0"][:].sum() == 25
    assert not (tmp_path / "out" / ".parts").exists()


@pytest.mark.parametrize(("normalize", "kind"), [("auto", np.uint8), ("off", np.uint8), ("100,4000", np.uint16)])
def test_fixed_limits_are_applied_to_the_values_of_the_file(normalize, kind, tmp_path):
    values = np.arange(1200, dtype=np.uint16).reshape(30, 40) * 50
    cv2.imwrite(str(tmp_path / "deep.png"), values)
    seen = []

    class Looks(Stub):
        cfg = SimpleNamespace(**{**vars(Stub.cfg), "INPUT": SimpleNamespace(NORMALIZE=normalize)})

        def segment(self, image, tta):
            seen.append(image)
            return CropMasks.empty(image.shape[:2])

    assert predict_files(Looks(), find_images([tmp_path / "deep.png"]), tmp_path / "out", ["rle"]) == []
    assert seen[0].dtype == kind
    if kind == np.uint16:
        np.testing.assert_array_equal(seen[0][..., 0], values)


def test_a_bad_image_is_named_and_the_rest_is_done(images, tmp_path):
    whole = (images / "image_3.png").read_bytes()
    (images / "image_3.png").write_bytes(whole[: len(whole) // 2])
    failed = predict_files(Squares(), find_images([images]), tmp_path / "out", QUICK)
    assert [name for name, _ in failed] == ["image_3"]
    assert "image_3.png" in failed[0][1]
    assert not (tmp_path / "out" / "labels" / "image_3.tif").exists()
    status = {row["image_id"]: row["status"] for row in csv.DictReader((tmp_path / "out" / "images.csv").open())}
    assert [status[f"image_{n}"] == "ok" for n in range(5)] == [True, True, True, False, True]
    # Mended and run again, only the bad one is still to do.
    (images / "image_3.png").write_bytes(whole)
    again = Squares()
    assert predict_files(again, find_images([images]), tmp_path / "out", QUICK) == []
    assert again.calls == 1


@pytest.mark.slow
def test_an_interrupted_run_goes_on_where_it_was(images, tmp_path):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out", QUICK)
    assert not (tmp_path / "out" / "submission.csv").exists(), "an unfinished submission is none"
    again = Squares()
    predict_files(again, files, tmp_path / "out", QUICK)
    assert again.calls == 2
    predict_files(Squares(), files, tmp_path / "whole", QUICK)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_parts_of_other_settings_are_not_used(images, tmp_path):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out", QUICK, settings={"model": "old"})
    again = Squares()
    predict_files(again, files, tmp_path / "out", QUICK, settings={"model": "new"})
    assert again.calls == 5


@pytest.mark.parametrize("part", [b"[" * 100_000, b"", b"\xff\xfe", b"[]", b'{"source": 1}'])
@pytest.mark.parametrize("stamp", [None, b"\xff\xfe"])
def test_a_damaged_part_is_made_again(part, stamp, images, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), find_images([images]), out, QUICK)
    if stamp is not None:
        (out / ".parts" / "settings").write_bytes(stamp)
    (out / ".parts" / "image_1.json").write_bytes(part)
    predict_files(Squares(), find_images([images]), out, QUICK)
    predict_files(Squares(), find_images([images]), tmp_path / "other", QUICK)
    assert contents(out) == contents(tmp_path / "other")


@pytest.mark.parametrize("former", [False, True])
def test_a_link_in_place_of_the_parts_is_removed_and_not_followed(former, images, tmp_path):
    """Where it leads to the parts of a run with the same settings, too."""
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    if former:
        with pytest.raises(KeyboardInterrupt):
            predict_files(Squares(stop_after=3), find_images([images]), out, QUICK)
        (out / ".parts").rename(elsewhere)
    else:
        out.mkdir()
        elsewhere.mkdir()
        (elsewhere / "a.json").touch()
    (out / ".parts").symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    assert predict_files(Squares(), find_images([images]), out, QUICK) == []
    assert sorted(elsewhere.iterdir()) == before
    assert not (out / ".parts").is_symlink()


def test_parts_of_another_version_are_not_used(images, tmp_path, monkeypatch):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out", QUICK)
    monkeypatch.setattr(batch, "__version__", "0.0.9")
    again = Squares()
    predict_files(again, files, tmp_path / "out", QUICK)
    assert again.calls == 5


def test_only_what_is_asked_for_is_written(images, tmp_path):
    predict_files(Squares(), find_images([images]), tmp_path / "out", formats=["rle"])
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["submission.csv"]


def test_an_image_that_has_changed_is_done_again(images, tmp_path):
    files = find_images([images])
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), files, tmp_path / "out", QUICK)
    cv2.imwrite(str(images / "image_1.png"), np.full((20, 30, 3), 20, np.uint8))
    again = Squares()
    predict_files(again, files, tmp_path / "out", QUICK)
    assert again.calls == 3
    assert read_labels(tmp_path / "out" / "labels" / "image_1.tif")[2, 20] == 1


def test_images_are_read_ahead_but_not_all_of_them(images, tmp_path, monkeypatch):
    """Memory holds a few images, however many there are."""
    read, ahead = [], []
    monkeypatch.setattr(batch, "_read", lambda *args, real=batch._read: read.append(args[-1].id) or real(*args))

    class Watching(Squares):
        def segment(self, image, tta):
            ahead.append(len(read) - self.calls)
            return super().segment(image, tta)

    for number in range(20):
        cv2.imwrite(str(images / f"more_{number:02}.png"), np.full((20, 30, 3), 1, np.uint8))
    predict_files(Watching(), find_images([images]), tmp_path / "out", ["rle"])
    assert read == sorted(read)
    assert 1 < max(ahead) <= batch._AHEAD + 1


@pytest.mark.slow
def test_a_failed_write_is_one_line_and_what_is_done_stays_done(images, tmp_path):
    """The limit of the file size stands for a disk that is full."""
    cv2.imwrite(str(images / "image_3.png"), np.zeros((200, 300, 3), np.uint8))

    class Sizes(Squares):
        def segment(self, image, tta):
            self.calls += 1
            return CropMasks.from_labels(np.arange(1, image[..., 0].size // 6 + 1).repeat(6).reshape(image.shape[:2]))

    files, limits = find_images([images]), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"image_3\.\w+: cannot be written .*free space") as error:
            predict_files(Sizes(), files, tmp_path / "out", ["rle", "geojson"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out" / "submission.csv").exists()
    assert not list((tmp_path / "out" / "geojson").glob("*image_3*"))
    again = Sizes()
    assert predict_files(again, files, tmp_path / "out", ["rle", "geojson"]) == []
    assert again.calls <= 2
    assert len(read_geojson(tmp_path / "out" / "geojson" / "image_3.geojson", (200, 300))) == 10_000


# Forks a run, kills it once so many images are done, and so on; the last run is left to end. One that is not killed is
# the first and imports all that they need, so that the moments lie in their work.
KILLED = """
import json, os, random, signal, sys, time
from pathlib import Path
from maskseg.imaging.finding import find_images
from maskseg.inference.run import predict_files
from maskseg.core.masks import CropMasks
from tests.inference.test_run import Stub

images, out, whole, log, formats = sys.argv[1], *map(Path, sys.argv[2:5]), sys.argv[5].split(",")

class Logged(Stub):
    def segment(self, image, tta):
        with log.open("a") as file:
            file.write(f"{image[0, 0, 0]}\\n")
        return CropMasks.from_labels((image[..., 0] // 7 + 1).astype(int))

files, chance, kills = find_images([images]), random.Random(0), 0
predict_files(Logged(), files, whole, formats)
log.unlink()
done = lambda: sum(1 for path in (out / ".parts").glob("[!.]*.json")) if out.is_dir() else 0
for share in (0.1, 0.15, 0.3, 0.5, 0.7, 0.9, 0.95, 1):
    child = os.fork()
    if child == 0:
        predict_files(Logged(), files, out, formats)
        os._exit(0)
    while done() < share * len(files) and os.waitpid(child, os.WNOHANG) == (0, 0):
        time.sleep(0.0002)
    time.sleep(chance.uniform(0, 0.01))
    try:
        os.kill(child, signal.SIGKILL)
        kills += os.waitpid(child, 0)[1] == signal.SIGKILL
    except (ProcessLookupError, ChildProcessError):
        pass
predict_files(Logged(), files, out, formats)
print(kills)
"""


@pytest.mark.slow
def test_runs_killed_at_any_moment_end_as_one_that_was_not(repository, tmp_path):
    """Nothing is missing, doubled, torn or left over, and only what was in hand when it was killed is done twice."""
    (tmp_path / "images").mkdir()
    number = 60
    for value in range(number):
        gradient = np.broadcast_to(np.arange(40, dtype=np.uint8), (30, 40)).copy()
        gradient[0, 0] = value
        cv2.imwrite(str(tmp_path / "images" / f"image_{value:02}.png"), gradient)
    arguments = [*(tmp_path / name for name in ("images", "out", "whole", "log")), ",".join(QUICK)]
    command = [sys.executable, "-c", KILLED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=repository)
    assert done.returncode == 0, done.stderr
    kills = int(done.stdout)
    assert kills >= 5
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    times = np.bincount([int(line) for line in (tmp_path / "log").read_text().split()], minlength=number)
    assert times.min() >= 1
    # One in the network and, behind it, those that are being or waiting to be written.
    assert times.sum() <= number + kills * (batch._AHEAD + 2)


def small(number):
    """A grey image with a square, uint8 (20, 24)."""
    image = np.full((20, 24), 9 + number % 7, np.uint8)
    image[4:12, 5 : 9 + number % 9] = 200
    return image


class Outlines(Stub):
    """Finds what is bright."""

    model = torch.nn.Identity()

    def segment(self, image, tta):
        return CropMasks.from_labels(ndimage.label(image[..., 0] > 128)[0].astype(np.int32))


@pytest.mark.slow
def test_of_1000_files_of_many_kinds_with_50_bad_ones_of_every_kind_950_are_done_and_50_named(tmp_path):
    bad = write_mixture(tmp_path / "images", small)
    files = find_images([tmp_path / "images"])
    assert len(files) == 1000
    failed = predict_files(Outlines(), files, tmp_path / "out", ["rle", "table", "labels"])
    assert {image_id for image_id, _ in failed} == bad
    assert len(failed) == 50
    for image_id, reason in failed:
        assert f"{image_id}." in reason and "\n" not in reason
        assert "fault of maskseg" not in reason
    rows = list(csv.DictReader((tmp_path / "out" / "images.csv").open()))
    assert {row["image_id"] for row in rows if row["status"] != "ok"} == bad
    assert sum(row["status"] == "ok" for row in rows) == 950
    good = {file.id: (20, 24) for file in files if file.id not in bad}
    assert check_submission(tmp_path / "out" / "submission.csv", good) == []
    assert {path.stem for path in (tmp_path / "out" / "labels").iterdir()} == set(good)
    assert all(int(row["nuclei"]) == 1 for row in rows if row["status"] == "ok")


def column(out, name):
    with (out / "nuclei.csv").open(encoding="utf-8") as file:
        return [float(row[name] or "nan") for row in csv.DictReader(file)]


def test_the_size_of_a_pixel_that_a_file_says_fills_the_micrometres(tmp_path):
    pixels = np.full((30, 40), 9, np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, resolution=(20000, 20000), resolutionunit=3, photometric="minisblack")
    files = find_images([tmp_path / "a.tif"])
    predict_files(Squares(), files, tmp_path / "said", ["table"])
    assert column(tmp_path / "said", "area_um2") == [25 * 0.25]
    predict_files(Squares(), files, tmp_path / "given", ["table"], microns_per_pixel=2.0)
    assert column(tmp_path / "given", "area_um2") == [25 * 4.0]


def test_another_channel_is_another_image(tmp_path):
    """What was done of one channel is not taken for that of another."""
    planes = np.stack([np.full((30, 40), value, np.uint8) for value in (9, 20)])
    tifffile.imwrite(tmp_path / "a.ome.tif", planes, photometric="minisblack", metadata={"axes": "CYX"})
    for channel, left in (("0", 9), ("1", 20)):
        files = find_images([tmp_path / "a.ome.tif"], Choice.parse(channel))
        run = predict_files(Squares(), [*files, ImageFile("gone", tmp_path / "gone.png")], tmp_path / "out", ["table"])
        assert [name for name, _ in run] == ["gone"]
        assert column(tmp_path / "out", "x0") == [left]


@pytest.mark.slow
def test_results_that_were_deleted_are_made_again(images, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=4), find_images([images]), tmp_path / "out", QUICK)
    (tmp_path / "out" / "labels" / "image_1.tif").unlink()
    (tmp_path / "out" / ".parts" / "image_0.json").write_text("{")
    again = Squares()
    assert predict_files(again, find_images([images]), tmp_path / "out", QUICK) == []
    assert again.calls == 3
    predict_files(Squares(), find_images([images]), tmp_path / "unbroken", QUICK)
    assert contents(tmp_path / "out") == contents(tmp_path / "unbroken")


def test_an_image_that_is_replaced_after_it_was_read_is_done_again(images, tmp_path, monkeypatch):
    real = batch.Run.write

    def write(self, file, *args):
        if file.id == "image_1":
            cv2.imwrite(str(file.path), np.full((40, 30, 3), 6, np.uint8))
        real(self, file, *args)

    monkeypatch.setattr(batch.Run, "write", write)
    with pytest.raises(KeyboardInterrupt):
        predict_files(Squares(stop_after=3), find_images([images]), tmp_path / "out", QUICK)
    monkeypatch.undo()
    predict_files(Squares(), find_images([images]), tmp_path / "out", QUICK)
    assert read_labels(tmp_path / "out" / "labels" / "image_1.tif").shape == (40, 30)


def test_a_second_run_into_the_same_folder_says_so_and_changes_nothing(images, tmp_path):
    out = tmp_path / "out"

    class Second(Squares):
        def segment(self, image, tta):
            if not self.calls:
                with pytest.raises(InputError, match=r"out: another run is writing"):
                    predict_files(Squares(), find_images([images]), out, ["rle"])
            return super().segment(image, tta)

    assert predict_files(Second(), find_images([images]), out, QUICK) == []
    assert not [path.name for path in out.iterdir() if path.name.startswith(".")]
