"""Models by name, folder and file."""

import json
import pickle
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from detectron2.modeling import build_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from maskseg.cli.models import app
from maskseg.core.errors import InputError
from maskseg.inference.api import build_predictor, load_model
from maskseg.models import zoo
from maskseg.models.checkpoint import Checkpointer, checksum, read_weights
from maskseg.models.config import load_config
from maskseg.models.zoo import export, find_model

SMALL = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FPN.OUT_CHANNELS": "16",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "32",
    "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.05",
    "MODEL.WEIGHTS": "secret/start.npz",
    "OUTPUT_DIR": "secret/runs",
    "INPUT.LONG_SIDE": "96",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A training folder with random weights in ``model_final.pth``."""
    folder = tmp_path_factory.mktemp("run")
    cfg = load_config("nuclei_R_18_FPN", [text for pair in SMALL.items() for text in pair])
    torch.manual_seed(1)
    model = build_model(cfg)
    # The heads start near zero; larger weights make decided, different detections.
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "predictor" in name or "rpn_head" in name:
                value.normal_(0, 0.2)
    Checkpointer(model, str(folder)).save("model_final", iteration=5)
    (folder / "config.yaml").write_text(cfg.dump())
    return folder


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "small.safetensors"
    export(run, path)
    return path


def picture() -> np.ndarray:
    image = np.random.default_rng(2).integers(0, 60, (80, 96, 3), np.uint8)
    for x, y in ((20, 20), (60, 30), (40, 60)):
        cv2.circle(image, (x, y), 9, (200, 190, 220), -1)
    return image


@pytest.mark.slow
def test_exported_and_read_back_it_detects_the_same(run, exported):
    one, other = (load_model(path, ["MODEL.BFLOAT16", "False"]).detect(picture()) for path in (run, exported))
    assert len(one.scores) > 20
    # Weights of half precision move a box by a fraction of a pixel, and where two overlap just as much as the
    # suppression allows, the other may stay.
    apart = np.abs(one.boxes[:, None] - other.boxes[None]).max(axis=2)
    partner, near = apart.argmin(axis=1), apart.min(axis=1) < 0.5
    assert near.mean() > 0.95
    assert np.abs(one.scores - other.scores[partner])[near].max() < 0.02
    assert np.abs(one.masks - other.masks[partner])[near].mean() < 0.01


@pytest.mark.slow
def test_the_exported_file_is_small_has_its_config_and_tells_nothing_of_where_it_was_made(run, exported):
    assert exported.stat().st_size < 0.55 * (run / "model_final.pth").stat().st_size
    assert all(value.dtype == torch.float16 for value in load_file(exported).values())
    assert b"secret" not in exported.read_bytes()
    cfg, before = find_model(exported).cfg, find_model(run).cfg
    assert cfg.INPUT == before.INPUT and cfg.POSTPROCESS == before.POSTPROCESS
    assert (cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST) == (16, 0.05)


def test_exported_again_it_is_the_same_file(exported, tmp_path):
    export(exported, tmp_path / "again.safetensors")
    first, again = load_file(exported), load_file(tmp_path / "again.safetensors")
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[key]) for key, value in first.items())


def test_overrides_go_over_the_models_own_config(run, exported):
    for name in (run, exported):
        assert find_model(name, ["POSTPROCESS.MIN_AREA", "33"]).cfg.POSTPROCESS.MIN_AREA == 33


@pytest.mark.slow
def test_settings_saved_beside_a_checkpoint_are_followed_and_exported_but_overrides_come_last(run, tmp_path):
    for name in ("config.yaml", "model_final.pth"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / zoo.SETTINGS_FILE).write_text(
        "MODEL: {ROI_HEADS: {SCORE_THRESH_TEST: 0.4}}\nPOSTPROCESS: {MIN_AREA: 33, FRAGMENTS: keep_largest}"
    )
    for overrides, area in ([], 33), (["POSTPROCESS.MIN_AREA", "7"], 7):
        cfg = find_model(tmp_path, overrides).cfg
        assert area == cfg.POSTPROCESS.MIN_AREA
        assert cfg.POSTPROCESS.FRAGMENTS == "keep_largest"
        assert cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST == 0.4
        assert cfg.POSTPROCESS.MASK_THRESHOLD == find_model(run).cfg.POSTPROCESS.MASK_THRESHOLD
    export(tmp_path, tmp_path / "one.safetensors")
    assert find_model(tmp_path / "one.safetensors").cfg.POSTPROCESS.MIN_AREA == 33
    (tmp_path / zoo.SETTINGS_FILE).write_text("POSTPROCESS: {MIN_AREAS: 33}")
    with pytest.raises(InputError, match=r"postprocess\.yaml: .*MIN_AREAS"):
        find_model(tmp_path)


def test_of_a_training_folder_the_best_checkpoint_is_taken(run, tmp_path):
    assert find_model(run).weights.name == "model_final.pth"
    (tmp_path / "config.yaml").write_text((run / "config.yaml").read_text())
    for name in ("model_final.pth", "model_best.pth"):
        (tmp_path / name).write_bytes((run / "model_final.pth").read_bytes())
    assert find_model(tmp_path).weights.name == "model_best.pth"
    assert find_model(tmp_path / "model_final.pth").weights.name == "model_final.pth"


def test_a_bundled_model_is_found_by_its_name(exported, tmp_path, monkeypatch):
    monkeypatch.setattr(zoo, "WEIGHTS", tmp_path)
    with pytest.raises(InputError, match=r"^small: no such model; .*\(none\)"):
        find_model("small")
    (tmp_path / "small.safetensors").write_bytes(exported.read_bytes())
    assert find_model("small").weights == tmp_path / "small.safetensors"
    with pytest.raises(InputError, match=r"^other: no such model; .*\(small\)"):
        find_model("other")


def test_of_a_training_that_is_not_finished_the_last_checkpoint_is_taken(run, tmp_path, caplog):
    weights = (run / "model_final.pth").read_bytes()
    (tmp_path / "config.yaml").write_bytes((run / "config.yaml").read_bytes())
    (tmp_path / "model_0000199.pth").write_bytes(weights)
    (tmp_path / "last_checkpoint").write_text("model_0000199.pth")
    assert find_model(tmp_path).weights == tmp_path / "model_0000199.pth"
    (said,) = caplog.messages
    assert "not finished; model_0000199.pth is taken" in said
    caplog.clear()
    (tmp_path / "model_best.pth").write_bytes(weights)
    assert find_model(tmp_path).weights == tmp_path / "model_best.pth"
    assert caplog.messages == []


def test_an_empty_folder_and_a_checkpoint_without_config_are_refused(run, tmp_path):
    with pytest.raises(InputError, match=r"no model_best\.pth or model_final\.pth in it"):
        find_model(tmp_path)
    (tmp_path / "model_final.pth").write_bytes((run / "model_final.pth").read_bytes())
    with pytest.raises(InputError, match=r"model_final\.pth: the config\.yaml of its training is not beside it"):
        find_model(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "maskseg-2", "config": ""}, {"format": "maskseg-1"}])
def test_another_format_is_refused(exported, tmp_path, metadata):
    save_file(load_file(exported), tmp_path / "other.safetensors", metadata)
    with pytest.raises(InputError, match=r"a model of format .* export it again or upgrade maskseg") as caught:
        find_model(tmp_path / "other.safetensors")
    assert "\n" not in str(caught.value)


def header(path) -> tuple[int, dict]:
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return length, json.loads(content[8 : 8 + length])


def tampered(exported, kind: str) -> bytes:
    content = exported.read_bytes()
    length, head = header(exported)
    if kind == "cut":
        return content[:-1000]
    if kind == "cut in the header":
        return content[:200]
    if kind == "empty":
        return b""
    if kind == "one bit":
        return content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]
    if kind == "other length":
        return (length + 8).to_bytes(8, "little") + content[8:]
    if kind == "two weights exchanged":
        one, other = (f"roi_heads.mask_head.mask_fcn{i}.weight" for i in (2, 3))
        head[one], head[other] = head[other], head[one]
    # A threshold changed, a config that asks YAML to run code, or that is no config.
    config = {
        "two weights exchanged": head["__metadata__"]["config"],
        "threshold": head["__metadata__"]["config"].replace("MIN_AREA: 24", "MIN_AREA: 25"),
        "code": "SEED: !!python/object/apply:os.system ['true']",
        "no config": "- nothing",
        "no yaml": "a: [1",
    }
    head["__metadata__"]["config"] = config[kind]
    text = json.dumps(head).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [
        *("cut", "cut in the header", "empty", "other length", "one bit", "two weights exchanged", "threshold"),
        *("code", "no config", "no yaml"),
    ],
)
def test_a_tampered_file_is_refused(exported, tmp_path, kind):
    path = tmp_path / "tampered.safetensors"
    path.write_bytes(tampered(exported, kind))
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert "tampered.safetensors: " in str(caught.value)


class Bomb:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_pickle_under_the_name_of_a_safetensors_file_is_refused_and_not_run(tmp_path, write):
    path, ran = tmp_path / "model.safetensors", tmp_path / "ran"
    write({"model": Bomb(ran)}, path)
    with pytest.raises(InputError, match=r"model\.safetensors: not a safetensors file .*; get it again") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)
    assert not ran.exists()
    # Under another name: torch itself reads what ends in .safetensors as such, since 2.14.
    path = path.rename(tmp_path / "model.pt")
    torch.load(path, weights_only=False) if write is torch.save else pickle.loads(path.read_bytes())
    assert ran.exists()


def test_the_checksum_is_of_the_tensors_and_the_metadata_in_any_order(exported):
    with safe_open(exported, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(exported)
    backwards = dict(reversed(tensors.items()))
    assert checksum(backwards, dict(reversed(metadata.items()))) == metadata["sha256"]
    name = "roi_heads.mask_head.mask_fcn1.weight"
    assert checksum({**tensors, name: tensors[name].flatten()}, metadata) != metadata["sha256"]
    assert checksum(tensors, {**metadata, "format": "maskseg-2"}) != metadata["sha256"]


def test_a_model_without_its_checksum_is_refused(exported, tmp_path):
    with safe_open(exported, "pt") as file:
        metadata = {key: value for key, value in file.metadata().items() if key != "sha256"}
    save_file(load_file(exported), tmp_path / "first.safetensors", metadata)
    for read in (find_model, load_model, read_weights):
        with pytest.raises(InputError, match=r"first\.safetensors: it carries no checksum; export it again"):
            read(tmp_path / "first.safetensors")


def test_weights_of_another_config_are_refused_in_one_line(run, exported):
    cfg = load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"])
    for weights in (run / "model_final.pth", exported):
        with pytest.raises(InputError, match="not the weights of this config") as caught:
            build_predictor(cfg, weights)
        assert "\n" not in str(caught.value)
        assert str(weights) in str(caught.value)


def test_a_model_is_exported_under_its_own_ending_only(run, tmp_path):
    with pytest.raises(InputError, match=r"model\.pth: models are exported as \.safetensors"):
        export(run, tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


def test_the_header_is_read_without_the_weights(exported):
    with safe_open(exported, "pt") as file:
        assert file.metadata()["format"] == zoo.FORMAT


def test_the_card_states_licence_and_scores_of_every_bundled_model_as_in_its_tables():
    about = zoo.card()
    tables = (zoo.WEIGHTS / "CARD.md").read_text().split("---\n", 2)[2]
    assert about.keys() == zoo.bundled().keys()
    for model in about.values():
        assert f"| licence | {model['licence']} |" in tables
        assert {"val_stratified", "val_grouped"} <= model["dsb_score"].keys()
        for part, score in model["dsb_score"].items():
            assert re.search(rf"\| `{part}` \| \d+ \| {score:.3f} \|", tables), part


def test_the_list_shows_size_parameters_licence_and_scores():
    done = CliRunner().invoke(app, ["list"])
    assert done.exit_code == 0, done.output
    first, second = done.output.splitlines()[:2]
    size = zoo.bundled()["nuclei"].stat().st_size / 1e6
    assert first.startswith("nuclei ") and " M parameters" in first and f" {size:.1f} MB " in first
    assert "licence Apache-2.0" in second
    for part, score in zoo.card()["nuclei"]["dsb_score"].items():
        assert f"{part} {score:.3f}" in second


@pytest.mark.slow
def test_a_model_of_the_time_of_the_flip_key_keeps_its_views(run, tmp_path):
    """Checkpoints and exported models that know POSTPROCESS.FLIP are read as they were meant."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    for key in ("TTA", "TTA_MERGE", "TTA_MIN_IOU"):
        del tree["POSTPROCESS"][key]
    for flip, views in ((True, "flip"), (False, "none")):
        tree["POSTPROCESS"] |= {"FLIP": flip, "FLIP_MIN_IOU": 0.3}
        folder = tmp_path / views
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump(tree))
        shutil.copy(run / "model_final.pth", folder)
        one_file = tmp_path / f"{views}.safetensors"
        weights = {name: torch.zeros(1) for name in ("a", "b")}
        metadata = {"format": zoo.FORMAT, "config": yaml.safe_dump(tree)}
        save_file(weights, one_file, {**metadata, "sha256": checksum(weights, metadata)})
        for model in (folder, one_file):
            rules = find_model(model).cfg.POSTPROCESS
            assert views == rules.TTA and rules.TTA_MIN_IOU == 0.3
            assert "FLIP" not in rules
    (tmp_path / "flip" / zoo.SETTINGS_FILE).write_text("POSTPROCESS:\n  FLIP: false\n")
    assert find_model(tmp_path / "flip").cfg.POSTPROCESS.TTA == "none"
