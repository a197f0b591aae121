"""tools/vendor_detectron2.py, on a made-up source distribution and without a network."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
import tarfile
from pathlib import Path

import pytest

# The lines of Detectron2 0.6 that are changed, in files that hold little else.
SOURCES = {
    "detectron2/__init__.py": 'from .utils.env import setup_environment\n\n__version__ = "0.6"\n',
    "detectron2/layers/__init__.py": "",
    "detectron2/layers/deform_conv.py": "import torch\n\nfrom detectron2 import _C\n\nuse = _C\n",
    "detectron2/layers/roi_align_rotated.py": "from detectron2 import _C\n",
    "detectron2/layers/rotated_boxes.py": "from detectron2 import _C\n",
    "detectron2/evaluation/__init__.py": "",
    "detectron2/evaluation/coco_evaluation.py": (
        "from pycocotools.cocoeval import COCOeval\nfrom detectron2.evaluation.fast_eval_api import COCOeval_opt\n"
    ),
    "detectron2/evaluation/pascal_voc_evaluation.py": "x = y.astype(np.bool)\n# x = y.astype(np.bool)\n",
    "detectron2/evaluation/sem_seg_evaluation.py": (
        "a = dtype=np.int\nb = np.int\nc = np.int64\n" + "d = np.float\n" * 5 + "e = np.float32\n"
    ),
    "detectron2/data/__init__.py": "",
    "detectron2/data/build.py": "a = np.zeros((n,), dtype=np.int)\nb = np.asarray(x, dtype=np.int)\n",
    "detectron2/data/datasets/__init__.py": "",
    "detectron2/data/datasets/pascal_voc.py": "fileids = np.loadtxt(f, dtype=np.str)\n",
    "detectron2/data/transforms/__init__.py": "",
    "detectron2/data/transforms/transform.py": ("def f(interp=Image.LINEAR, fill=0):\n    return Image.BILINEAR\n"),
    "detectron2/structures/__init__.py": "",
    "detectron2/structures/keypoints.py": "@torch.jit.script_if_tracing\ndef f(x):\n    return x\n",
    "detectron2/structures/masks.py": "a = z.astype(np.bool)\n" * 3 + "b = np.bool_\n",
    "detectron2/utils/__init__.py": "",
    "detectron2/utils/video_visualizer.py": "a = np.zeros(3, dtype=np.bool)\n",
    "detectron2/utils/visualizer.py": "a = z.astype(np.bool)\n" * 3,
    "detectron2/model_zoo/__init__.py": "",
    "detectron2/model_zoo/model_zoo.py": (
        "import os\nimport pkg_resources\n\n\ndef get_config_file(config_path):\n"
        "    cfg_file = pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        "    )\n    return cfg_file\n"
    ),
    "detectron2/model_zoo/configs/COCO/mask.yaml": "MODEL: {}\n",
    "detectron2/model_zoo/configs/common/coco.py": "x = 1\n",
    "detectron2/modeling/__init__.py": "",
    "detectron2/modeling/anchor_generator.py": "y, x = torch.meshgrid(shifts_y, shifts_x)\n",
    "detectron2/modeling/box_regression.py": (
        "@torch.jit.script\nclass A(object):\n    pass\n\n\n@torch.jit.script\nclass B(object):\n    pass\n"
    ),
    "detectron2/projects/__init__.py": "",
    "projects/PointRend/point_rend/__init__.py": "name = 'point_rend'\n",
    "projects/DeepLab/deeplab/__init__.py": "",
    "projects/Panoptic-DeepLab/panoptic_deeplab/__init__.py": "",
    "setup.py": "raise SystemExit('the upstream setup.py must not run: it compiles')\n",
    "README.md": "# Detectron2\n",
    "LICENSE": "Apache License\n",
}


@pytest.fixture(scope="module")
def vendoring(repository):
    """The script as a module."""
    script = repository / "tools/vendor_detectron2.py"
    spec = importlib.util.spec_from_file_location("vendor_detectron2", script)
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def write_tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return root


def read_tree(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): path.read_text(encoding="utf-8")
        for path in root.rglob("*")
        if path.is_file()
    }


def make_archive(path: Path, files: dict[str, str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return path


def test_patches_replace_the_removed_names_and_nothing_else(vendoring, tmp_path):
    vendoring.apply_patches(write_tree(tmp_path, SOURCES))
    after = read_tree(tmp_path)

    for name in ("deform_conv", "roi_align_rotated", "rotated_boxes"):
        assert "from detectron2._no_compiled_ops import _C\n" in after[f"detectron2/layers/{name}.py"]
    assert after["detectron2/evaluation/coco_evaluation.py"].endswith("COCOeval_opt = COCOeval\n")
    assert "interp=Image.BILINEAR, fill=0" in after["detectron2/data/transforms/transform.py"]
    assert "np.int64" in after["detectron2/evaluation/sem_seg_evaluation.py"]
    assert "np.float32" in after["detectron2/evaluation/sem_seg_evaluation.py"]
    assert "np.bool_" in after["detectron2/structures/masks.py"]
    everything = "\n".join(after.values())
    removed = ("np.int\n", "np.int)", "np.float\n", "np.bool)", "np.str", "Image.LINEAR", "pkg_resources", "@torch.jit")
    for gone in removed:
        assert gone not in everything, gone
    patched = {patch.path for patch in vendoring.PATCHES}
    assert {name for name in SOURCES if after[name] != SOURCES[name]} == patched
    for name in patched:
        compile(after[name], name, "exec")
        # The licence asks that a changed file says so.
        assert after[name].startswith("# Changed by maskseg")


@pytest.mark.parametrize("text", ["x = 1\n", "from detectron2 import _C\n" * 2], ids=["absent", "twice"])
def test_a_patch_that_does_not_fit_is_named_and_nothing_is_written(vendoring, tmp_path, text):
    tree = write_tree(tmp_path, {**SOURCES, "detectron2/layers/rotated_boxes.py": text})
    before = read_tree(tree)
    found = r"layers/rotated_boxes\.py.* found [02] times, 1 expected"
    with pytest.raises(vendoring.VendorError, match=found):
        vendoring.apply_patches(tree)
    assert read_tree(tree) == before


def test_a_missing_file_is_named(vendoring, tmp_path):
    tree = write_tree(tmp_path, SOURCES)
    (tree / "detectron2/data/build.py").unlink()
    with pytest.raises(vendoring.VendorError, match=r"data/build\.py: not there"):
        vendoring.apply_patches(tree)


def test_an_op_that_is_not_compiled_fails_by_name_when_called(vendoring):
    namespace = {}
    exec(vendoring.NO_COMPILED_OPS, namespace)
    with pytest.raises(RuntimeError, match="box_iou_rotated is a compiled op"):
        namespace["_C"].box_iou_rotated(1, 2)
    # Python itself looks for such names, for example when it copies or pickles.
    assert not hasattr(namespace["_C"], "__deepcopy__")


def test_the_copy_holds_upstreams_packages_configs_projects_licence_and_the_changes(vendoring, tmp_path):
    package = vendoring.arrange(write_tree(tmp_path, SOURCES))
    assert package == tmp_path / "detectron2"
    inside = {f"detectron2/{name}" for name in read_tree(package)}
    expected = {name for name in SOURCES if name.startswith("detectron2/")}
    projects = ("point_rend", "deeplab", "panoptic_deeplab")
    expected |= {f"detectron2/projects/{name}/__init__.py" for name in projects}
    expected |= {f"detectron2/{name}" for name in ("_no_compiled_ops.py", "LICENSE", "CHANGES")}
    assert inside == expected
    assert (package / "LICENSE").read_text() == SOURCES["LICENSE"]
    listed = (package / "CHANGES").read_text()
    assert all(f"- {patch.path}\n" in listed for patch in vendoring.PATCHES)
    assert vendoring.SHA256 in listed


@pytest.fixture
def archive(vendoring, tmp_path, monkeypatch):
    """The made-up source distribution in place of the one of the index; returns how often it was asked for."""
    got = []

    def download(folder):
        got.append(folder)
        return make_archive(folder / "d2.tar.gz", {f"d2-0.6/{name}": text for name, text in SOURCES.items()})

    monkeypatch.setattr(vendoring, "download", download)
    return got


def test_a_copy_is_made_once_and_again_when_it_is_of_another_recipe(vendoring, archive, tmp_path, monkeypatch):
    vendor = tmp_path / "maskseg/_vendor"
    assert not vendoring.is_current(vendor)
    assert vendoring.make(vendor)
    assert vendoring.is_current(vendor)
    assert not vendoring.make(vendor)
    assert len(archive) == 1

    (vendor / "detectron2/gone_upstream.py").write_text("")
    monkeypatch.setattr(vendoring, "recipe", lambda: "another")
    assert vendoring.make(vendor)
    assert len(archive) == 2
    assert not (vendor / "detectron2/gone_upstream.py").exists()
    assert [path.name for path in vendor.iterdir()] == ["detectron2"]


def test_where_it_cannot_be_made_the_copy_that_is_there_stays(vendoring, archive, tmp_path, monkeypatch):
    vendoring.make(tmp_path)
    before = read_tree(tmp_path)
    monkeypatch.setattr(vendoring, "recipe", lambda: "another")
    monkeypatch.setattr(vendoring, "PATCHES", (vendoring.Patch("detectron2/none.py", "x", "y"),))
    monkeypatch.setattr(vendoring.apply_patches, "__defaults__", (vendoring.PATCHES,))
    with pytest.raises(vendoring.VendorError, match=r"none\.py: not there"):
        vendoring.make(tmp_path)
    assert read_tree(tmp_path) == before


@pytest.mark.slow
def test_an_archive_of_another_hash_is_refused(vendoring, tmp_path, monkeypatch):
    files = {
        "made_up-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: made-up\nVersion: 1.0\n",
        # Nothing of it is run: upstream's needs torch, and the environment of a build has none.
        "made_up-1.0/setup.py": "import no_such_module\n",
    }
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    archive = make_archive(shelf / "made_up-1.0.tar.gz", files)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    for name in ("right", "wrong"):
        (tmp_path / name).mkdir()

    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    got = vendoring.download(tmp_path / "right", "made-up==1.0", right)
    assert got.read_bytes() == archive.read_bytes()

    wrong = "0" * 64
    with pytest.raises(vendoring.VendorError, match=f"(?s)HASHES.*{wrong}"):
        vendoring.download(tmp_path / "wrong", "made-up==1.0", wrong)
    assert not list((tmp_path / "wrong").glob("*.tar.gz"))


def test_a_path_that_leads_outside_is_refused(vendoring, tmp_path):
    archive = make_archive(tmp_path / "bad.tar.gz", {"d2/a.py": "", "d2/../../outside.py": ""})
    with pytest.raises(vendoring.VendorError, match="outside"):
        vendoring.unpack(archive, tmp_path / "in")
    assert not (tmp_path / "outside.py").exists()


def test_links_are_not_unpacked(vendoring, tmp_path):
    archive = tmp_path / "links.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        kinds = {"d2": tarfile.DIRTYPE, "d2/passwd": tarfile.SYMTYPE, "d2/a.py": tarfile.REGTYPE}
        for name, kind in kinds.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    assert vendoring.unpack(archive, tmp_path / "in") == tmp_path / "in/d2"
    assert [path.name for path in (tmp_path / "in/d2").iterdir()] == ["a.py"]


def test_an_index_that_does_not_answer_is_said_in_one_line(vendoring, monkeypatch, capsys):
    def no_index(*_arguments, **_more):
        raise vendoring.VendorError("the index does not answer")

    monkeypatch.setattr(vendoring, "is_current", lambda _vendor: False)
    monkeypatch.setattr(vendoring, "run_pip", no_index)
    assert vendoring.main() == 1
    assert capsys.readouterr().err == "vendor_detectron2: error: the index does not answer\n"
