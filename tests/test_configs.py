"""The configs against the published method, and what happens to mistaken ones."""

from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from yaml import safe_load

from maskseg.core.errors import InputError
from maskseg.models.config import default_config, load_config
from maskseg.models.config_files import config_path
from maskseg.training.trainer import build_optimizer

NAMES = ("nuclei_R_101_FPN", "nuclei_R_18_FPN")


@pytest.fixture
def reference():
    return load_config("nuclei_R_101_FPN", ["MODEL.DEVICE", "cpu"])


def test_the_reference_has_the_numbers_of_the_method(reference):
    model, aug, rules = reference.MODEL, reference.INPUT.AUG, reference.POSTPROCESS
    assert model.RESNETS.DEPTH == 101
    assert model.ANCHOR_GENERATOR.SIZES == [[8], [16], [32], [64], [128]]
    assert model.ANCHOR_GENERATOR.ASPECT_RATIOS == [[0.5, 1.0, 2.0]]
    assert model.RPN.BATCH_SIZE_PER_IMAGE == 320
    assert model.RPN.NMS_THRESH == model.RPN.NMS_THRESH_TEST == 0.7
    assert model.RPN.CONV_DIMS == [512]
    assert model.RPN.POST_NMS_TOPK_TRAIN == model.RPN.POST_NMS_TOPK_TEST == 2048
    assert model.RPN.PRE_NMS_TOPK_ALL == 6000
    # Box deltas are divided by 0.1 and 0.2; smooth L1, its mean over the positives.
    assert list(model.RPN.BBOX_REG_WEIGHTS) == list(model.ROI_BOX_HEAD.BBOX_REG_WEIGHTS) == [10, 10, 5, 5]
    assert model.RPN.SMOOTH_L1_BETA == model.ROI_BOX_HEAD.SMOOTH_L1_BETA == 1
    assert model.RPN.BBOX_REG_LOSS_TYPE == model.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE == "smooth_l1"
    assert model.BOX_LOSS_MEAN
    assert model.ROI_HEADS.BATCH_SIZE_PER_IMAGE == 512
    assert (model.ROI_HEADS.NAME, model.ROI_HEADS.NEGATIVES_PER_POSITIVE) == ("NucleiROIHeads", 2)
    assert not model.ROI_HEADS.PROPOSAL_APPEND_GT
    assert model.RESNETS.TRAIN_AFFINE and model.RESNETS.NORM == "FrozenBN" and model.BACKBONE.FREEZE_AT == 0
    clip = reference.SOLVER.CLIP_GRADIENTS
    assert (clip.ENABLED, clip.CLIP_TYPE, clip.CLIP_VALUE, clip.NORM_TYPE) == (True, "full_model", 5, 2)
    assert reference.SOLVER.AMSGRAD and reference.TEST.KEEP_BEST == "loss"
    assert abs(model.ROI_HEADS.POSITIVE_FRACTION - 1 / 3) < 0.005
    assert model.ROI_HEADS.NUM_CLASSES == 1
    assert model.ROI_HEADS.SCORE_THRESH_TEST == 0.75
    assert model.ROI_HEADS.NMS_THRESH_TEST == 0.3
    assert model.MASK_ON
    # Up to 400 detections, more where the image holds more: no limit. Nor are the proposals one.
    assert reference.TEST.DETECTIONS_PER_IMAGE == -1
    assert model.PROPOSAL_GENERATOR.NAME == "NucleiRPN"
    assert (reference.INPUT.LONG_SIDE, reference.INPUT.SHRINK, aug.WINDOW) == (512, True, 512)
    assert aug.CROP_SIZE == 256 and aug.CROP_PROB == 1
    assert list(aug.SCALE) == [0.5, 2.0] and aug.SCALE_DRAW == "uniform"
    assert aug.ROTATE == 15 and aug.AFFINE_PROB == 0.5 and aug.BORDER == "reflect"
    assert aug.FLIP and aug.QUARTER_TURNS
    # Found not to help there: no other change of the picture.
    assert (reference.INPUT.NORMALIZE, aug.CONTRAST, aug.BRIGHTNESS, aug.GAMMA) == ("off", 0, 0, 0)
    assert reference.DATALOADER.MODALITY_BALANCE == 0
    assert rules.MASK_THRESHOLD == 0.35
    assert rules.TTA == "flip" and rules.TTA_MERGE == "auto" and rules.TTA_MIN_IOU == 0.1
    assert rules.RETRY_CANVAS == 4 and not rules.RESCALE
    assert rules.FILL_HOLES and rules.CLOSE
    assert rules.FRAGMENTS == "drop"
    assert rules.MIN_AREA == 11, "more than 10 pixels"


def test_the_schedule_is_75_epochs_of_443_images_in_three_steps(reference):
    solver = reference.SOLVER
    epoch = -(-443 // 2)
    assert solver.IMS_PER_BATCH == 2
    assert (*solver.STEPS, solver.MAX_ITER) == (25 * epoch, 50 * epoch, 75 * epoch)
    # Validated and saved once an epoch.
    assert reference.TEST.EVAL_PERIOD == solver.CHECKPOINT_PERIOD == epoch


def test_the_division_has_443_training_images(repository):
    rows = (repository / "datasets" / "splits" / "dsb2018_stage1.csv").read_text().splitlines()
    assert sum(row.split(",")[1] == "train" for row in rows) == 443


@pytest.mark.slow
def test_the_learning_rate_that_the_scheduler_gives(reference):
    optimizer = build_optimizer(reference, torch.nn.Linear(2, 2))
    assert isinstance(optimizer, torch.optim.Adam) and not isinstance(optimizer, torch.optim.AdamW)
    scheduler = build_lr_scheduler(reference, optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [1e-4]
    expected = {1: 1e-4, 100: 1e-4, 5549: 1e-4, 5550: 1e-5, 11099: 1e-5, 11100: 1e-6, 16649: 1e-6}
    for iteration, rate in expected.items():
        # Steps in between change nothing but this count.
        scheduler.last_epoch = iteration - 1
        optimizer.step()
        scheduler.step()
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate], rel=1e-9), iteration


@pytest.mark.parametrize(("name", "kind"), [("SGD", "SGD"), ("Adam", "Adam"), ("AdamW", "AdamW")])
def test_the_optimizer_is_the_one_named_and_clips_the_norm(reference, name, kind):
    reference.SOLVER.OPTIMIZER, reference.SOLVER.CLIP_GRADIENTS.CLIP_TYPE = name, "norm"
    weight = torch.nn.Linear(3, 1, bias=False)
    optimizer = build_optimizer(reference, weight)
    assert kind in [base.__name__ for base in type(optimizer).__mro__[:2]]
    weight.weight.grad = torch.full((1, 3), 100.0)
    optimizer.step()
    assert weight.weight.grad.norm() == pytest.approx(reference.SOLVER.CLIP_GRADIENTS.CLIP_VALUE, rel=1e-4)


def test_amsgrad_is_that_of_the_config(reference):
    for amsgrad in (True, False):
        reference.SOLVER.AMSGRAD = amsgrad
        assert build_optimizer(reference, torch.nn.Linear(2, 2)).defaults["amsgrad"] is amsgrad


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "strides", "sizes"),
    [
        ("nuclei_R_101_FPN", {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}, [8, 16, 32, 64, 128]),
        ("nuclei_R_18_FPN", {"p2": 4, "p3": 8, "p4": 16, "p5": 32}, [12, 24, 48, 96]),
    ],
)
def test_the_pyramid_and_its_anchors(name, strides, sizes):
    # The depth changes neither; 50 is built in a quarter of the time.
    depth = ["MODEL.RESNETS.DEPTH", "50"] if "101" in name else []
    cfg = load_config(name, ["MODEL.DEVICE", "cpu", "MODEL.ROI_BOX_HEAD.FC_DIM", "8", *depth])
    model = build_model(cfg)
    assert {level: shape.stride for level, shape in model.backbone.output_shape().items()} == strides
    assert list(strides) == cfg.MODEL.RPN.IN_FEATURES
    with torch.no_grad():
        features = model.backbone(torch.zeros(1, 3, 128, 192))
    for level, stride in strides.items():
        assert features[level].shape[2:] == (128 // stride, 192 // stride)
    anchors = model.proposal_generator.anchor_generator.cell_anchors
    assert len(anchors) == len(sizes)
    for cell, size in zip(anchors, sizes, strict=True):
        width, height = (cell[:, 2:] - cell[:, :2]).T
        assert (height / width).tolist() == pytest.approx([0.5, 1, 2])
        assert (height * width).sqrt().tolist() == pytest.approx([size] * 3)


def test_the_cpu_network_is_small():
    model = build_model(load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"]))
    assert not any("res5" in name for name, _ in model.named_parameters())
    assert sum(parameter.numel() for parameter in model.parameters()) < 6e6


# ---- files and overrides ----


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_found_by_name_from_anywhere(name, repository, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for spelling in (name, f"{name}.yaml", f"configs/{name}.yaml"):
        assert config_path(spelling) == repository / "configs" / f"{name}.yaml"
    # A file that is there goes before one of the same name in configs/.
    own = Path(f"{name}.yaml")
    own.write_text("SEED: 9\n")
    assert load_config(own).SEED == 9


def test_another_path_is_not_taken_for_one_in_configs(tmp_path):
    with pytest.raises(InputError, match="no such config file"):
        config_path(tmp_path / "nuclei_R_18_FPN.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_written_and_read_again_a_config_is_the_same(name, tmp_path):
    cfg = load_config(name, ["SOLVER.BASE_LR", "0.005"])
    (tmp_path / "config.yaml").write_text(cfg.dump())
    for again in (load_config(tmp_path / "config.yaml"), default_config(cfg.dump())):
        assert safe_load(again.dump()) == safe_load(cfg.dump())
        assert again.SOLVER.BASE_LR == 0.005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL:\n  FOO: 1\n", "MODEL.FOO"),
        ("SOLVER:\n  BASE_LR: fast\n", "SOLVER.BASE_LR"),
        ("SOLVER: 3\n", "SOLVER"),
        ("SOLVER: [1\n", "flow sequence"),
        ("SEED: !!python/object/apply:os.getcwd []\n", "os.getcwd"),
        ("_BASE_: nowhere.yaml\n", "nowhere.yaml"),
        ("- SEED\n", "keys with values"),
        ("", "keys with values"),
        ("SEED: 1\0", "special characters"),
        ("POSTPROCESS:\n  FRAGMENTS: keep\n", "FRAGMENTS is 'keep'; choose one of drop, keep_largest"),
    ],
)
def test_a_mistaken_file_is_one_line(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_config(tmp_path / "mine.yaml")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["SOLVER.BASE_RATE", "1"], "SOLVER.BASE_RATE"),
        (["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR"),
        (["SOLVER.BASE_LR.X", "1"], "SOLVER.BASE_LR.X"),
        (["DATASETS.TRAIN", "data/mine"], "DATASETS.TRAIN"),
        (["SEED"], "KEY VALUE"),
        (["SOLVER", "3"], "SOLVER"),
        (["SOLVER.OPTIMIZER", "Adan"], "choose one of SGD, Adam, AdamW"),
        (["SOLVER.LR_SCHEDULER_NAME", "Cosine"], "choose one of WarmupMultiStepLR, WarmupCosineLR"),
        (["INPUT.AUG.SCALE", "[2.0]"], "INPUT.AUG.SCALE"),
        (["INPUT.AUG.SCALE", "[0.0, 2.0]"], "INPUT.AUG.SCALE"),
        (["POSTPROCESS.TTA", "turns"], "POSTPROCESS.TTA"),
        (["POSTPROCESS.RESCALE", "[1.5, 3.0]"], "POSTPROCESS.RESCALE"),
        (["POSTPROCESS.DIAMETER", "-3.0"], "POSTPROCESS.DIAMETER"),
    ],
)
def test_a_mistaken_override_is_one_line(overrides, message):
    with pytest.raises(InputError, match=message) as caught:
        load_config("nuclei_R_18_FPN", overrides)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", ["30", "-0", "+7"])
def test_a_whole_number_does_for_a_decimal_one(tmp_path, value):
    (tmp_path / "mine.yaml").write_text(f"INPUT: {{NUCLEUS_DIAMETER: {value}}}\nSEED: {value}\n")
    for cfg in (
        load_config("nuclei_R_18_FPN", ["INPUT.NUCLEUS_DIAMETER", value, "SEED", "3"]),
        load_config(tmp_path / "mine.yaml"),
    ):
        assert isinstance(cfg.INPUT.NUCLEUS_DIAMETER, float) and int(value) == cfg.INPUT.NUCLEUS_DIAMETER
        assert isinstance(cfg.SEED, int)


def test_a_config_of_the_time_of_the_stretch_key_is_normalized_as_it_was_stretched():
    for stretch, normalize in ((True, "auto"), (False, "off")):
        inputs = default_config(f"INPUT: {{STRETCH: {str(stretch).lower()}}}").INPUT
        assert normalize == inputs.NORMALIZE
        assert "STRETCH" not in inputs


@pytest.mark.slow
@pytest.mark.parametrize("value", ["auto", "off", "100,4000", "-0.5,1e3"])
def test_normalize_is_the_same_text_from_yaml_the_command_line_and_a_saved_config(value):
    """YAML has ``off`` for False, and Python ``100,4000`` for a pair of numbers."""
    given = load_config("nuclei_R_18_FPN", ["INPUT.NORMALIZE", value])
    for cfg in (given, default_config(given.dump()), default_config(f"INPUT:\n  NORMALIZE: {value}\n")):
        assert value == cfg.INPUT.NORMALIZE


def test_other_values_of_normalize_are_one_line():
    with pytest.raises(InputError, match="give auto, off, or the two values"):
        load_config("nuclei_R_18_FPN", ["INPUT.NORMALIZE", "4000,100"])


def test_ultrasound_is_trained_for_20_epochs_whatever_the_number_of_frames():
    from maskseg.training.schedule import fit_schedule

    for frames, iterations in ((5635, 14088), (40, 100)):
        cfg = load_config("ultrasound_unet")
        fit_schedule(cfg, frames)
        assert iterations == cfg.SOLVER.MAX_ITER
        assert round(iterations / 20) == cfg.SOLVER.WARMUP_ITERS
        assert pytest.approx(iterations / 8, abs=0.5) == cfg.TEST.EVAL_PERIOD
