"""The evaluator alone and in two processes, with predictions that are drawn from the truth."""

import json
import os
import subprocess
import sys

import pytest

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.dsb import image_scores, summarise
from maskseg.evaluation.evaluator import NucleusEvaluator, evaluate_records
from maskseg.inference.predictor import Predictor
from tests.fixtures.converting import convert_folders as convert


class EverySecond(Predictor):
    """Stands for a predictor: the true nuclei, every second of them; knows its images by their pixels."""

    def __init__(self, records):
        self.truth = {}
        for record in records:
            image, labels = load_record(record)
            self.truth[image.tobytes()] = CropMasks.from_labels(labels)[::2]

    def segment(self, image, tta=None):
        return self.truth[image.tobytes()]


@pytest.fixture(scope="module")
def dataset(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    convert(repository / "datasets/sample/heldout", folder, progress=False)
    return folder


def expected(records):
    predictor, scores = EverySecond(records), {}
    for record in records:
        image, truth = load_record(record)
        scores[record["file_name"]] = (image_scores(truth, predictor.segment(image).to_labels()), record["modality"])
    ordered = [scores[name] for name in sorted(scores)]
    return summarise([row for row, _ in ordered], [modality for _, modality in ordered])


def test_the_figures_are_those_of_the_images_and_an_image_seen_twice_counts_once(dataset):
    records = dataset_dicts(str(dataset))
    predictor = EverySecond(records)
    assert evaluate_records(predictor, records) == expected(records)
    evaluator = NucleusEvaluator()
    for record in [*records, records[0]]:
        evaluator.process([record], [predictor.segment(load_record(record)[0])])
    assert evaluator.evaluate() == expected(records)
    evaluator.reset()
    evaluator.process(records[:1], [predictor.segment(load_record(records[0])[0])])
    assert evaluator.evaluate()["images"] == 1


PROCESS = """
import json, sys
import maskseg
from detectron2.utils import comm
from maskseg.data.dataset import dataset_dicts
from maskseg.evaluation.evaluator import evaluate_records
from maskseg.training.distributed import run
from tests.evaluation.test_evaluator import EverySecond

def main(folder, out):
    records = dataset_dicts(folder)
    mine = records[comm.get_rank() :: comm.get_world_size()]
    assert comm.get_world_size() == 2
    # Each process can segment its own share only.
    found = evaluate_records(EverySecond(mine), records, shared=True)
    with open(f"{out}.{comm.get_rank()}", "w") as file:
        json.dump(found, file)

run(main, 0, (sys.argv[1], sys.argv[2]))
"""


def test_two_processes_give_the_figures_of_one(dataset, tmp_path, repository):
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(repository)}
    done = subprocess.run(
        [*command, str(dataset), str(tmp_path / "found")],
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "found.0").read_text()) == expected(dataset_dicts(str(dataset)))
    assert json.loads((tmp_path / "found.1").read_text()) == {}
