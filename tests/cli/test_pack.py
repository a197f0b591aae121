"""``maskseg pack``."""

import shutil

import numpy as np
import pytest

from maskseg.data.dataset import dataset_dicts, load_record
from tests.fixtures.converting import convert_folders as convert


@pytest.fixture
def dataset(repository, tmp_path):
    """The held-out images of the sample."""
    convert(repository / "datasets" / "sample" / "heldout", tmp_path / "set", progress=False)
    return tmp_path / "set"


@pytest.mark.slow
def test_real_images_there_and_back(maskseg, dataset, tmp_path):
    status, out, _ = maskseg("pack", dataset, "-o", tmp_path / "pack")
    records = dataset_dicts(str(dataset))
    assert status == 0
    assert f"{len(records)} images with {sum(len(record['annotations']) for record in records)} nuclei" in out
    size = sum(path.stat().st_size for path in (tmp_path / "pack").rglob("*") if path.is_file())
    assert f"-> {size / 1e6:.1f} MB" in out
    assert size < 0.9 * sum(path.stat().st_size for path in dataset.rglob("*") if path.is_file())
    status, _, _ = maskseg("pack", "--unpack", tmp_path / "pack", "-o", tmp_path / "again")
    assert status == 0
    for folder in ("pack", "again"):
        for record, other in zip(records, dataset_dicts(str(tmp_path / folder)), strict=True):
            for one, two in zip(load_record(record), load_record(other), strict=True):
                assert np.array_equal(one, two)


@pytest.mark.slow
def test_a_pack_can_be_split_and_evaluated(maskseg, dataset, tmp_path):
    maskseg("pack", dataset, "-o", tmp_path / "pack")
    shutil.rmtree(dataset)
    status, _, _ = maskseg("split", tmp_path / "pack", "--dev", "0.5", "--val", "0")
    assert status == 0
    assert {len(dataset_dicts(f"{tmp_path / 'pack'}:{part}")) > 0 for part in ("train", "dev")} == {True}
    status, out, err = maskseg("evaluate", "--truth", tmp_path / "pack", "--pred", tmp_path / "pack")
    assert (status, err) == (0, "")
    assert "1.000" in out


@pytest.mark.slow
def test_a_damaged_image_is_named_and_the_status_says_so(maskseg, dataset, tmp_path):
    first = sorted((dataset / "images").iterdir())[0]
    first.write_bytes(first.read_bytes()[:300])
    status, out, err = maskseg("pack", dataset, "-o", tmp_path / "pack")
    assert status == 2
    assert first.name in err
    assert err.count("\n") == 1
    assert f"{len(dataset_dicts(str(dataset))) - 1} images" in out


def test_a_folder_that_is_no_data_set_is_one_line(maskseg, tmp_path):
    status, _, err = maskseg("pack", tmp_path, "-o", tmp_path / "pack")
    assert status == 2
    assert err.startswith("maskseg: error: ")
    assert "maskseg convert" in err
    assert err.count("\n") == 1
