"""What the tests of the commands share."""

import shutil

import pytest

from maskseg.data.dataset import dataset_dicts
from maskseg.data.split import write_split
from tests.fixtures.converting import convert_folders as convert


@pytest.fixture(scope="session")
def converted(repository, tmp_path_factory):
    """Images of the sample as a data set, one for each part that is named."""

    def make(*parts):
        folder = tmp_path_factory.mktemp("converted")
        for source in sorted((repository / "datasets" / "sample" / "train").iterdir())[: len(parts)]:
            shutil.copytree(source, folder / "source" / source.name)
        convert(folder / "source", folder / "data", progress=False)
        rows = [
            {"image_id": record["image_id"], "part": part, "modality": "white on black"}
            for record, part in zip(dataset_dicts(str(folder / "data")), parts, strict=True)
        ]
        write_split(folder / "data" / "split.csv", rows)
        return folder / "data"

    return make
