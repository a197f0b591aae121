"""The evaluator alone and in two processes, with predictions that are drawn from the truth."""

import json
import multiprocessing
import os
import socket
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm

from maskseg.core.masks import CropMasks
from maskseg.data.dataset import dataset_dicts, load_record
from maskseg.evaluation.dsb import image_scores, summarise
from maskseg.evaluation.evaluator import NucleusEvaluator, evaluate_records
from maskseg.inference.predictor import Predictor
from maskseg.training.distributed import run
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


@pytest.mark.slow
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


def figures(folder, out):
    """What one of two processes finds."""
    records = dataset_dicts(folder)
    assert comm.get_world_size() == 2
    # Each process can segment its own share only.
    mine = records[comm.get_rank() :: comm.get_world_size()]
    found = evaluate_records(EverySecond(mine), records, shared=True)
    Path(f"{out}.{comm.get_rank()}").write_text(json.dumps(found))


def process(rank, port, folder, out):
    """One of two processes, with what torchrun would tell it."""
    told = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank}
    told |= {"LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "CUDA_VISIBLE_DEVICES": ""}
    os.environ.update({name: str(value) for name, value in told.items()})
    torch.set_num_threads(1)
    run(figures, 0, (folder, out))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked, which this system cannot")
def test_two_processes_give_the_figures_of_one(dataset, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    given = (port, str(dataset), tmp_path / "found")
    both = [multiprocessing.get_context("fork").Process(target=process, args=(rank, *given)) for rank in (0, 1)]
    for one in both:
        one.start()
    for one in both:
        one.join(600)
    assert [one.exitcode for one in both] == [0, 0]
    assert json.loads((tmp_path / "found.0").read_text()) == expected(dataset_dicts(str(dataset)))
    assert json.loads((tmp_path / "found.1").read_text()) == {}
