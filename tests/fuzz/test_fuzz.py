"""Every reader on spoiled files: what comes out is a result or an InputError of one line; nothing else, and no hang.

`make fuzz MINUTES=n` does it for longer, with other examples each time. What it finds once becomes a test of its own
beside the reader.
"""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskseg.core.errors import InputError
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.formats import registry
from maskseg.formats.coco import load_coco
from maskseg.formats.labels import read_labels
from maskseg.formats.reader import Item
from maskseg.formats.submission_check import check_submission
from maskseg.imaging.reading import ImageFile, read_image
from maskseg.imaging.slides import open_source
from tests.fuzz import seeds
from tests.fuzz.spoiling import FUZZ, odd_json, spoiled

SHAPE = (20, 24)
JSON = {"coco": seeds.coco(), "geojson": seeds.geojson()}
# A file of each format that is read from one, by the ending of the file.
FILES = {"xml": (".xml", seeds.xml()), "rle": (".csv", seeds.rle()), "imagej": (".zip", seeds.imagej())}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def label_files(folder):
    return seeds.label_files(folder)


def only_input_errors(read, *args):
    try:
        return read(*args)
    except InputError as error:
        assert "\n" not in str(error)
        return None


def read_format(name, path):
    for item in registry.get(name, "--format", registry.readable()).imported("reader")(path):
        if isinstance(item, Item):
            only_input_errors(item.read, SHAPE)


@FUZZ
@given(spoiled(seeds.pictures() + seeds.tiffs()))
def test_images(data):
    only_input_errors(read_image, data, "a.png")


@pytest.mark.slow
@FUZZ
@given(spoiled(seeds.tiffs()))
def test_images_in_parts(folder, data):
    path = folder / "a.tif"
    path.write_bytes(data)

    def read():
        source = open_source(ImageFile("a", path)).source
        source.read((0, 0, min(source.shape[1], 512), min(source.shape[0], 512)))

    only_input_errors(read)


@pytest.mark.slow
@FUZZ
@given(data=st.data())
def test_label_images(folder, label_files, data):
    suffix = data.draw(st.sampled_from(sorted(label_files)))
    path = folder / f"labels{suffix}"
    path.write_bytes(data.draw(spoiled([label_files[suffix]])))
    only_input_errors(read_labels, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(JSON))
@FUZZ
@given(data=st.data())
def test_annotations_in_json(folder, name, data):
    path = folder / ("annotations.json" if name == "coco" else "a.geojson")
    text = json.dumps(JSON[name]).encode()
    path.write_bytes(data.draw(st.one_of(odd_json(JSON[name]), odd_json(JSON[name]), spoiled([text]))))
    only_input_errors(read_format, name, path)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FILES) & set(registry.readable())))
@FUZZ
@given(data=st.data())
def test_annotations_in_other_files(folder, name, data):
    suffix, seed = FILES[name]
    path = folder / f"a{suffix}"
    path.write_bytes(data.draw(spoiled([seed])))
    only_input_errors(read_format, name, path)


@pytest.mark.slow
@FUZZ
@given(odd_json(seeds.coco()))
def test_a_data_set(folder, text):
    (folder / "set" / "images").mkdir(parents=True, exist_ok=True)
    (folder / "set" / "images" / "a.png").write_bytes(seeds.pictures()[0])
    (folder / "set" / "annotations.json").write_bytes(text)
    only_input_errors(load_coco, folder / "set")
    for record in only_input_errors(dataset_dicts, str(folder / "set")) or []:
        only_input_errors(load_record, record)


@FUZZ
@given(spoiled([seeds.rle()]))
def test_a_submission(folder, data):
    path = folder / "submission.csv"
    path.write_bytes(data)
    only_input_errors(check_submission, path, {"a": SHAPE, "b": SHAPE})


@FUZZ
@given(spoiled([seeds.safetensors()]))
def test_weights(folder, data):
    from maskseg.models.checkpoint import model_weights

    path = folder / "model.safetensors"
    path.write_bytes(data)
    only_input_errors(model_weights, path)


@FUZZ
@given(spoiled([b"MODEL:\n  MASK_ON: true\n  ANCHORS: &a [[8, 16]]\n  B: *a\nX: !!python/name:os.system\n"]))
def test_yaml(folder, data):
    from yaml import YAMLError

    from maskseg.models.config_files import load_yaml

    path = folder / "config.yaml"
    path.write_bytes(data)
    # What it says that it raises; each command makes one line of them.
    with suppress(OSError, YAMLError, ValueError, TypeError):
        load_yaml(path)
