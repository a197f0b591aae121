"""Install Detectron2 0.6 as a pure-Python package, with nothing but pip and a package index.

Upstream has no wheel on the package index, and a plain `pip install` of the source distribution that is there
fails, because the C++ sources are missing from it. Mask R-CNN needs none of them: torchvision has nms and
roi_align. So this script

1. leaves a Detectron2 that already works (a compiled upstream build, say) alone;
2. gets the source distribution with pip and pip's own hash check;
3. changes the few lines that newer Pillow, NumPy and setuptools or the missing compiled ops need (`PATCHES`),
   each of which must be found exactly as often as stated;
4. builds the wheel `detectron2` 0.6 with upstream's whole Python tree (model zoo configs and the three small
   projects included) and installs it without touching any other package: its real runtime needs stand in
   maskseg's setup.cfg.

Examples
--------
::

    python tools/install_detectron2.py                    # into the environment of this python
    python tools/install_detectron2.py --wheel-dir DIR    # only build DIR/detectron2-0.6-py3-none-any.whl
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REQUIREMENT = "pb1-detectron2==0.6"
SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"

# What maskseg imports of Detectron2; a build in which these load is a working one.
PROBE = "import detectron2.engine, detectron2.evaluation, detectron2.model_zoo, detectron2.modeling"


class InstallError(RuntimeError):
    """What went wrong and what to do about it, in a line or two."""


@dataclass(frozen=True)
class Patch:
    """Replace `pattern` (a regular expression) by `new` (plain text) in `path`, exactly `count` times."""

    path: str
    pattern: str
    new: str
    count: int = 1


# Stands where `from detectron2 import _C` stood. An op that was not compiled then fails when it is called, by
# name, and not when the package is imported.
NO_COMPILED_OPS = '''"""Stand-in for detectron2._C: this is a pure-Python build, without the compiled ops."""


class _NotCompiled:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(
            f"detectron2._C.{name} is a compiled op, and this is a pure-Python build of Detectron2; "
            "for rotated boxes and deformable convolution install Detectron2 from its upstream source"
        )


_C = _NotCompiled()
'''
NEW_FILES = {"detectron2/_no_compiled_ops.py": NO_COMPILED_OPS}

_IMPORT_C = r"^from detectron2 import _C$"
_USE_STAND_IN = "from detectron2._no_compiled_ops import _C"
# NumPy 1.24 removed these aliases of Python's own types.
_BOOL = (r"\bnp\.bool\b", "bool")
_INT = (r"\bnp\.int\b", "int")
_FLOAT = (r"\bnp\.float\b", "float")

PATCHES = (
    # No compiled ops.
    Patch("detectron2/layers/deform_conv.py", _IMPORT_C, _USE_STAND_IN),
    Patch("detectron2/layers/roi_align_rotated.py", _IMPORT_C, _USE_STAND_IN),
    Patch("detectron2/layers/rotated_boxes.py", _IMPORT_C, _USE_STAND_IN),
    # pycocotools' own evaluation in place of the compiled one, as upstream did after 0.6.
    Patch(
        "detectron2/evaluation/coco_evaluation.py",
        r"^from detectron2\.evaluation\.fast_eval_api import COCOeval_opt$",
        "COCOeval_opt = COCOeval",
    ),
    # Pillow 10 removed Image.LINEAR, the other name of Image.BILINEAR.
    Patch("detectron2/data/transforms/transform.py", r"\bImage\.LINEAR\b", "Image.BILINEAR"),
    # NumPy 1.24.
    Patch("detectron2/data/build.py", *_INT, count=2),
    Patch("detectron2/data/datasets/pascal_voc.py", r"\bnp\.str\b", "str"),
    Patch("detectron2/evaluation/pascal_voc_evaluation.py", *_BOOL, count=2),
    Patch("detectron2/evaluation/sem_seg_evaluation.py", *_INT, count=2),
    Patch("detectron2/evaluation/sem_seg_evaluation.py", *_FLOAT, count=5),
    Patch("detectron2/structures/masks.py", *_BOOL, count=3),
    Patch("detectron2/utils/video_visualizer.py", *_BOOL),
    Patch("detectron2/utils/visualizer.py", *_BOOL, count=3),
    # setuptools 82 removed pkg_resources.
    Patch("detectron2/model_zoo/model_zoo.py", r"^import pkg_resources$", "import importlib.resources"),
    Patch(
        "detectron2/model_zoo/model_zoo.py",
        r"pkg_resources\.resource_filename\(\s*"
        r'"detectron2\.model_zoo", os\.path\.join\("configs", config_path\)\s*\)',
        'str(importlib.resources.files("detectron2.model_zoo").joinpath("configs", config_path))',
    ),
    # torch warns at every start that the default indexing will change; this is the one in force.
    Patch(
        "detectron2/modeling/anchor_generator.py",
        r"torch\.meshgrid\(shifts_y, shifts_x\)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
    ),
)

# Upstream's setup.py installs these under detectron2.projects.
PROJECTS = {
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}

PYPROJECT = """[build-system]
requires = ["setuptools>=70.1"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "0.6"
description = "FAIR's platform for object detection and segmentation (pure-Python build, no compiled ops)"
readme = "README.md"
license = {text = "Apache-2.0"}
authors = [{name = "FAIR"}]
urls = {Homepage = "https://github.com/facebookresearch/detectron2"}

[tool.setuptools.packages.find]
include = ["detectron2*"]
exclude = ["detectron2.model_zoo.configs*"]

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*.yaml", "configs/**/*.py"]
"""


def probe(python: str = sys.executable) -> tuple[bool, str]:
    """Say whether `python` has a Detectron2 that works.

    Parameters
    ----------
    python : str
        The interpreter to ask; a new process, so that nothing stays imported here.

    Returns
    -------
    tuple of (bool, str)
        True and "VERSION in FOLDER", or False and the last line of the error ("" where there is none at all).
    """
    code = f"{PROBE}; print('\\n' + detectron2.__version__, 'in', detectron2.__path__[0])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return True, done.stdout.strip().splitlines()[-1]
    error = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return False, "" if error == "ModuleNotFoundError: No module named 'detectron2'" else error


def run_pip(*arguments: str | Path) -> None:
    """Run pip of this interpreter; raise `InstallError` with pip's own error lines when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise InstallError(f"pip {arguments[0]} failed:\n{output}")


def download(folder: Path, requirement: str = REQUIREMENT, sha256: str = SHA256) -> Path:
    """Get the source distribution with pip, which refuses any file with another hash.

    pip also asks the distribution for its metadata, and its setup.py imports torch: hence no build isolation.

    Parameters
    ----------
    folder : Path
        An empty folder for the archive.
    requirement, sha256 : str
        What to get, pinned, and the SHA-256 that it must have.

    Returns
    -------
    Path
        The archive.

    Raises
    ------
    InstallError
        If torch or setuptools is missing, the index does not answer, or the hash differs.
    """
    need = "import setuptools, torch; assert int(setuptools.__version__.split('.')[0]) >= 71"
    if subprocess.run([sys.executable, "-c", need], capture_output=True, check=False).returncode:
        raise InstallError(
            "torch and setuptools 71 or newer must be there before Detectron2; "
            f"run: {sys.executable} -m pip install -c constraints.txt ."
        )
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    source_only = ("--no-deps", "--no-binary=:all:", "--no-build-isolation")
    run_pip("download", *source_only, "--dest", folder, "-r", wanted)
    (archive,) = folder.glob("*.tar.gz")
    return archive


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution into `folder`, plain files only, and return its one top folder.

    Raises
    ------
    InstallError
        If a name leads outside the folder, or the archive has not exactly one top folder.
    """
    tops = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise InstallError(f"{archive.name}: {member.name} leads outside the folder; not unpacked")
            tops.add(name.parts[0])
            # Links and devices have no place in a source distribution and are not made.
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                target = folder.joinpath(*name.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    if len(tops) != 1:
        raise InstallError(f"{archive.name}: one top folder expected, found {sorted(tops)}")
    return folder / tops.pop()


def apply_patches(tree: Path, patches: tuple[Patch, ...] = PATCHES) -> None:
    """Change the files under `tree`; nothing is written unless every patch fits.

    Raises
    ------
    InstallError
        If a file is missing or a pattern is found more or less often than its patch states.
    """
    changed: dict[Path, str] = {}
    for patch in patches:
        path = tree / patch.path
        if path not in changed:
            if not path.is_file():
                raise InstallError(f"{patch.path}: not there; this is not the source of Detectron2 0.6")
            changed[path] = path.read_text(encoding="utf-8")
        text, found = re.subn(patch.pattern, lambda _, new=patch.new: new, changed[path], flags=re.MULTILINE)
        if found != patch.count:
            raise InstallError(
                f"{patch.path}: {patch.pattern!r} found {found} times, {patch.count} expected; "
                "this is not the source of Detectron2 0.6"
            )
        changed[path] = text
    for path, text in changed.items():
        path.write_text(text, encoding="utf-8")


def build_wheel(tree: Path, wheel_dir: Path) -> Path:
    """Turn the unpacked source distribution into the wheel `detectron2` 0.6 in `wheel_dir`."""
    apply_patches(tree)
    for name, text in NEW_FILES.items():
        (tree / name).write_text(text, encoding="utf-8")
    for source, target in PROJECTS.items():
        shutil.move(tree / source, tree / target)
    # Upstream's setup.py would compile; what is left is plain Python with data files.
    (tree / "setup.py").unlink()
    (tree / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    run_pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheel_dir, tree)
    return wheel_dir / "detectron2-0.6-py3-none-any.whl"


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(description="Install Detectron2 0.6 as a pure-Python package.")
    parser.add_argument("--wheel-dir", type=Path, metavar="DIR", help="only build the wheel, into DIR")
    wheel_dir = parser.parse_args(arguments).wheel_dir
    try:
        if wheel_dir is None:
            works, what = probe()
            if works:
                print(f"detectron2 {what} works and is left alone")
                return 0
            if what:
                print(f"the detectron2 that is installed does not work ({what}) and is replaced")
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            wheel = build_wheel(unpack(download(folder), folder), wheel_dir or folder)
            if wheel_dir is not None:
                print(f"built {wheel}")
                return 0
            run_pip("install", "--no-deps", "--no-index", "--force-reinstall", wheel)
        works, what = probe()
        if not works:
            raise InstallError(f"installed, but it does not load: {what}; run: maskseg doctor")
    except InstallError as error:
        print(f"install_detectron2: error: {error}", file=sys.stderr)
        return 1
    print(f"installed detectron2 {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
