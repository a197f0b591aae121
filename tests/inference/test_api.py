"""Python and the command line decide alike, and what a model cannot follow is refused."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

import maskseg
from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.formats.geojson import read_geojson
from maskseg.imaging.finding import find_images
from maskseg.imaging.reading import read_image
from maskseg.inference.api import build_predictor, load_model
from maskseg.inference.mask_rcnn import MaskRCNNPredictor
from maskseg.inference.predictor import OPTIONS, Predictor, refuse_formats, refuse_options
from maskseg.inference.run import predict_files
from maskseg.inference.settings import PostprocessSettings
from maskseg.inference.tile_grid import CONTEXT, LARGE, SIDE, Tiles, in_tiles
from maskseg.inference.tiling import TiledPredictor
from maskseg.models.config import default_config, load_config
from maskseg.projects.protein.predictor import ProteinPredictor, predict_proteins
from maskseg.projects.unet.predictor import PixelPredictor
from tests.inference.test_predictor import BrightSpots, picture, pixel_sets, predictor


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file of 3000 x 2000 pixels: more than is predicted in one piece."""
    path = tmp_path_factory.mktemp("large") / "large.png"
    image = np.zeros((2000, 3000, 3), np.uint8)
    for row in range(2):
        for column in range(3):
            spots = picture(10 * row + column, (600, 600), 25)
            image[700 * row + 50 :, 900 * column + 80 :][:600, :600] = spots
    cv2.imwrite(str(path), image)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("tta", ["none", "flip"])
@pytest.mark.parametrize("config", ["nuclei_R_18_FPN", "nuclei_R_101_FPN"])
def test_segment_and_predict_agree_on_a_large_image(config, tta, large, tmp_path):
    network = BrightSpots()
    model = predictor(network, config=config)
    found = model.segment(read_image(large), tta)
    assert len(found) > 100, "nothing is shrunk until there is nothing left"
    assert max(shape[1] * shape[2] for shape in network.seen) <= (SIDE + 2 * CONTEXT) ** 2 < 2000 * 3000, (
        "it was seen in tiles"
    )
    assert predict_files(model, find_images([large]), tmp_path, ["labels", "geojson"], tta) == []
    written = read_geojson(tmp_path / "geojson" / "large.geojson", (2000, 3000))
    assert pixel_sets(written) == pixel_sets(found)


@pytest.mark.slow
@pytest.mark.parametrize("shrink", ["False", "True"])
def test_a_trained_network_agrees_too(shrink, repository, tmp_path):
    """Under a lower limit, at which real images are large; one thread, whose sums have one order."""
    keys = ["MODEL.DEVICE", "cpu", "INPUT.SHRINK", shrink, "POSTPROCESS.TTA", "none", "POSTPROCESS.RESCALE", "[]"]
    model = load_model("nuclei", keys)
    image = read_image(next((repository / "datasets/sample/heldout").glob("76a3*/images/*.png")))
    image = np.ascontiguousarray(image[:224, :520])
    cv2.imwrite(str(tmp_path / "part.png"), image[..., ::-1])
    model.tiles = tiles = Tiles(side=320, overlap=32, large=300 * 300)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = model.segment(image)
        assert predict_files(model, find_images([tmp_path / "part.png"]), tmp_path, ["geojson"], tiles=tiles) == []
    finally:
        torch.set_num_threads(threads)
    assert pixel_sets(read_geojson(tmp_path / "geojson" / "part.geojson", (224, 520))) == pixel_sets(found)
    assert len(found) > 2


@pytest.mark.parametrize(
    ("shape", "scale", "magnify", "expected"),
    [
        ((2048, 2048), 1.0, 1.0, False),
        ((2048, 2049), 1.0, 1.0, True),
        ((2048, 2049), 0.25, 1.0, True),  # a config that shrinks does not shrink what is large
        ((1000, 1000), 1.0, 2.0, False),
        ((1000, 1000), 1.0, 2.1, True),
        ((1000, 1000), 0.5, 4.0, False),
        ((256, 256), 2.0, 4.1, True),
        ((100, 100), 40.0, 1.0, False),  # by the config alone
        ((1000, 1000), 40.0, 0.25, False),
    ],
)
def test_the_decision_for_tiles_follows_from_the_shape_the_scale_and_the_magnification(shape, scale, magnify, expected):
    assert in_tiles(shape, LARGE, scale, magnify) == expected
    assert in_tiles(shape[::-1], LARGE, scale, magnify) == expected


def test_the_settings_are_those_of_the_config():
    assert PostprocessSettings() == PostprocessSettings.from_config(default_config())
    changed = default_config(overrides=["POSTPROCESS.RESCALE", "[0.5, 2.0]", "POSTPROCESS.MIN_AREA", "3"])
    assert PostprocessSettings.from_config(changed) == PostprocessSettings(rescale=(0.5, 2.0), min_area=3)
    assert len(PostprocessSettings.__dataclass_fields__) == len(default_config().POSTPROCESS), "none is forgotten"


def test_which_predictors_can_be_asked_for_tiles():
    assert isinstance(predictor(BrightSpots()), TiledPredictor)
    assert not isinstance(PixelPredictor(default_config(), None), TiledPredictor)
    assert not isinstance(ProteinPredictor(default_config(), None), TiledPredictor)


GIVEN = {"tta": "flip", "diameter": 12.0, "normalize": "off", "microns-per-pixel": 0.5, "tile": 512, "tile-overlap": 64,
         "level": 1,
         "mpp": 0.5, "cluster": "ray", "expand": "5", "texture": True}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        (MaskRCNNPredictor, set()),
        (PixelPredictor, {"diameter", "tile", "tile-overlap", "level", "mpp"}),
        (ProteinPredictor, set(OPTIONS)),
    ],
)
def test_an_option_that_a_model_cannot_follow_is_refused_in_one_line(kind, refused):
    assert set(GIVEN) == set(OPTIONS)
    for name, value in GIVEN.items():
        given = {**dict.fromkeys(OPTIONS), name: value}
        if name in refused:
            with pytest.raises(InputError) as error:
                refuse_options(kind, given, "runs/mine")
            assert str(error.value) == (
                f"--{name} {value}: the model runs/mine, a {kind.title}, cannot follow it; leave it out"
            )
        else:
            refuse_options(kind, given, "runs/mine")
    refuse_options(kind, {"tta": "none"})


def test_formats_that_a_model_cannot_write_are_refused(tmp_path):
    refuse_formats(PixelPredictor, ["geojson", "rle"])
    refuse_formats(ProteinPredictor, ["rle"])
    with pytest.raises(InputError, match=r"--formats labels,geojson: .* classifier of proteins, writes rle only"):
        refuse_formats(ProteinPredictor, ["rle", "labels", "geojson"], "runs/mine")
    # From Python too, before anything is written.
    model = ProteinPredictor(default_config(), None)
    for arguments in ({"formats": ["geojson"]}, {"tta": "d4"}, {"tiles": Tiles()}, {"cluster": True}):
        with pytest.raises(InputError, match="a classifier of proteins"):
            predict_proteins(model, [], tmp_path, **arguments)
    with pytest.raises(InputError, match=r"--tile .* a U-Net cannot follow it"):
        predict_files(PixelPredictor(default_config(), None), [], tmp_path, ["labels"], tiles=Tiles(level=1))
    assert not list(tmp_path.iterdir())


def test_a_model_without_masks_says_so():
    with pytest.raises(InputError, match="a classifier of proteins gives no masks"):
        ProteinPredictor(default_config(), None).segment(np.zeros((8, 8, 3), np.uint8))


def test_a_predictor_that_can_only_segment_takes_batches():
    class Plain(Predictor):
        title = "plain"

        def segment(self, image, tta=None):
            return CropMasks.from_labels((image[..., 0] > 0).astype(int))

    images = [np.full((4, 5, 3), value, np.uint8) for value in (3, 0, 5)]
    assert [len(masks) for masks in Plain().segment_batch(images)] == [1, 0, 1]


def test_weights_of_another_network_are_one_line():
    with pytest.raises(InputError, match="not the weights of this config"):
        build_predictor(
            load_config("nuclei_unet", ["MODEL.DEVICE", "cpu"]), maskseg.__path__[0] + "/weights/nuclei.safetensors"
        )


@pytest.mark.slow
def test_the_public_names_are_there_and_cost_no_network_until_one_is_loaded():
    assert set(maskseg.__all__) == {"CropMasks", "load_model", "read_image"} <= set(dir(maskseg))
    assert maskseg.CropMasks is CropMasks and maskseg.read_image is read_image
    with pytest.raises(AttributeError, match="no_such_name"):
        maskseg.no_such_name  # noqa: B018
    code = (
        "import sys; import maskseg; assert 'numpy' not in sys.modules; from maskseg import CropMasks, read_image; "
        "print([name for name in ('torch', 'detectron2') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_a_model_that_is_loaded_draws_no_random_weights():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model = load_model("nuclei").model
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
