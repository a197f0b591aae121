"""What holds for every format of the registry, whichever it is."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

import maskseg
from maskseg.convert.annotated import convert_annotations
from maskseg.convert.export import export
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.data.dataset import load_coco, write_coco
from maskseg.evaluation.sets import open_set
from maskseg.formats.coco import to_annotations
from maskseg.formats.registry import (
    Format,
    default_formats,
    exported,
    formats,
    predicted,
    readable,
    recognise,
    register,
    writers,
)
from maskseg.formats.writer import ImageInfo, Writer, write_all
from maskseg.imaging.windows import ArraySource

from .annotated import LOSES_PIECES

SHAPE = (40, 300)


def masks():
    """Three nuclei without holes, one of two pieces; YOLO has no such."""
    labels = np.zeros(SHAPE, np.int32)
    labels[3:9, 4:8], labels[20:30, 5:40], labels[2:5, 100:280] = 1, 2, 3
    labels[32:35, 200:205] = 2
    return CropMasks.from_labels(labels)


def info(**known):
    image = np.full((*SHAPE, 3), 90, np.uint8)
    return ImageInfo("a", SHAPE, "a.png", ArraySource(image), **known)


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "set"
    items = [{"id": n, "image_id": 1, **item} for n, item in enumerate(to_annotations(masks()), start=1)]
    write_coco(folder / "annotations.json", [{"id": 1, "file_name": "a.png", "height": 40, "width": 300}], items)
    (folder / "images").mkdir()
    cv2.imwrite(str(folder / "images" / "a.png"), np.full((*SHAPE, 3), 90, np.uint8))
    return folder


def test_every_part_of_every_format_can_be_imported():
    for item in formats().values():
        for name in ("writer", "join", "reader", "recognises"):
            assert getattr(item, name) is None or callable(item.imported(name)), (item.name, name)
        assert (item.reader is None) == (item.recognises is None)
        assert item.about
        assert item.files or item.exported or item.writer is None
    assert set(default_formats()) < set(predicted()) < set(exported())


@pytest.mark.parametrize("name", predicted())
@pytest.mark.parametrize("tiled", [False, True])
def test_a_writer_that_is_interrupted_leaves_nothing(name, tiled, tmp_path):
    def nuclei():
        yield masks(), 10
        raise KeyboardInterrupt

    known = info(at_most=3) if tiled else info()
    with pytest.raises(KeyboardInterrupt):
        write_all([*writers([formats()[name]], known, tmp_path).values()], nuclei())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("name", predicted())
def test_an_image_without_nuclei_has_its_files_too(name, tmp_path):
    for known, folder in ((info(), tmp_path / "whole"), (info(at_most=0), tmp_path / "tiled")):
        item = formats()[name]
        (record,) = write_all([*writers([item], known, folder).values()], [(CropMasks.empty(SHAPE), SHAPE[0])])
        assert all(path.exists() for path in item.image_paths(folder, "a"))
        assert (record is not None) == item.joined


def test_one_writer_that_fails_lets_no_other_leave_half_a_file(tmp_path):
    class Failing(Writer):
        def add(self, masks, settled):
            pass

        def close(self):
            raise InputError("full")

    item = formats()["geojson"]
    for order in (1, -1):
        opened = [*writers([item], info(), tmp_path).values(), Failing(info())][::order]
        with pytest.raises(InputError, match="full"):
            write_all(opened, [(masks(), SHAPE[0])])
        files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
        assert files in ([], ["a.geojson"]), "whole or not at all"
        (tmp_path / "geojson" / "a.geojson").unlink(missing_ok=True)


@pytest.mark.parametrize("name", [name for name in exported() if name in readable() and name not in LOSES_PIECES])
def test_what_is_exported_is_recognised_and_read_back_exactly(name, dataset, tmp_path):
    export(str(dataset), tmp_path / "out", name, progress=False)
    source = tmp_path / "out"
    if name == "rle":  # one file
        (source,) = source.iterdir()
    assert recognise(source).name == name
    back = open_set(str(source))
    assert back.ids == ("a",)
    truth = masks().to_labels()
    found = back.labels("a", SHAPE)
    pairs = set(zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True))
    assert len(pairs) == 4, "each label is one label"
    convert_annotations(source, tmp_path / "back", name, dataset / "images", progress=False)
    data = load_coco(tmp_path / "back")
    assert {str(rle) for rle in data.masks(data.images[0]).to_rle()} == {str(rle) for rle in masks().to_rle()}


def test_a_format_that_needs_images_is_refused_where_there_are_none(dataset, tmp_path):
    (dataset / "images" / "a.png").unlink()
    (dataset / "images").rmdir()
    for name in exported():
        if formats()[name].pixels:
            with pytest.raises(InputError, match=f"--to {name}: needs the images .* give their folder"):
                export(str(dataset), tmp_path / "out", name, progress=False)
    assert not (tmp_path / "out").exists()


def test_a_name_is_taken_once():
    known = formats()["labels"]
    register(known)
    with pytest.raises(ValueError, match="another name"):
        register(Format("labels", "others", ("x/{id}.x",), writer=Writer))
    with pytest.raises(ValueError, match="neither"):
        register(Format("nothing", "nothing"))


def test_the_commands_know_no_format_by_its_name():
    """What writes images and tiles takes formats from the registry."""
    package = Path(maskseg.__file__).parent
    names = "|".join(set(formats()) - {"table"})
    for module in ("inference/run.py", "evaluation/sets.py", "convert/export.py", "convert/annotated.py"):
        text = (package / module).read_text()
        assert re.findall(rf"[\"']({names})[\"']", text) == [], module
