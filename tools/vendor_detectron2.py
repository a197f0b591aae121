"""Put Detectron2 0.6 as a pure-Python package into a folder, with nothing but pip and a package index.

Upstream has no wheel on the package index, and a plain `pip install` of the source distribution that is there
fails, because the C++ sources are missing from it. Mask R-CNN needs none of them: torchvision has nms and
roi_align. So maskseg's wheel carries Detectron2, and setup.py has this script make that copy when a wheel, a source
distribution or an editable install is built:

1. the source distribution is got with pip and pip's own hash check;
2. the few lines are changed that newer Pillow, NumPy, setuptools and torch or the missing compiled ops need
   (`PATCHES`), each of which must be found exactly as often as stated;
3. upstream's whole Python tree (model zoo configs and the three small projects included) goes into
   maskseg/_vendor/detectron2 with its licence and a list of the changes. Git does not know that folder.

maskseg/__init__.py puts it on the path, and only where no other `detectron2` can be imported.

Examples
--------
::

    python tools/vendor_detectron2.py    # into maskseg/_vendor, unless it is there already
"""

from __future__ import annotations

import hashlib
import os
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
VENDOR = Path(__file__).resolve().parent.parent / "maskseg" / "_vendor"

# Before pip gives a source distribution away it asks for the metadata. The setup.py of this one wants torch, which is
# not there when a wheel is built, and names an address that newer pips refuse. So pip asks this instead of setuptools,
# and nothing of the distribution is run.
STAND_IN_SETUPTOOLS = {
    "setuptools/__init__.py": "",
    "setuptools/build_meta.py": """import pathlib


class __legacy__:
    @staticmethod
    def get_requires_for_build_wheel(config_settings=None):
        return []

    @staticmethod
    def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
        folder = pathlib.Path(metadata_directory, "{name}-{version}.dist-info".replace("-", "_", {dashes}))
        folder.mkdir()
        folder.joinpath("METADATA").write_text("Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n")
        return folder.name
""",
}


class VendorError(RuntimeError):
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

# The first line of each changed file, as the licence asks.
NOTICE = "# Changed by maskseg; see CHANGES in the folder detectron2.\n"
CHANGES = "CHANGES"

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
    # torch 2.14 warns at every start that torch.jit.script is deprecated. Undecorated, the classes do the same;
    # fvcore decorates two losses of its own when it is imported.
    Patch("detectron2/modeling/box_regression.py", r"^@torch\.jit\.script\n", "", count=2),
    Patch("detectron2/structures/keypoints.py", r"^@torch\.jit\.script_if_tracing\n", ""),
    Patch(
        "detectron2/__init__.py",
        r"^from \.utils\.env import setup_environment$",
        """import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    import fvcore.nn  # noqa: F401

from .utils.env import setup_environment""",
    ),
)

# Upstream's setup.py installs these under detectron2.projects.
PROJECTS = {
    "projects/PointRend/point_rend": "detectron2/projects/point_rend",
    "projects/DeepLab/deeplab": "detectron2/projects/deeplab",
    "projects/Panoptic-DeepLab/panoptic_deeplab": "detectron2/projects/panoptic_deeplab",
}


def run_pip(*arguments: str | Path, first_on_path: Path) -> None:
    """Run pip of this interpreter; raise `VendorError` with pip's own error lines when it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    path = os.pathsep.join(filter(None, [str(first_on_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path})
    if done.returncode:
        output = (done.stdout + done.stderr).strip()
        raise VendorError(f"pip {arguments[0]} failed:\n{output}")


def download(folder: Path, requirement: str = REQUIREMENT, sha256: str = SHA256) -> Path:
    """Get the source distribution with pip, which refuses any file with another hash.

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
    VendorError
        If the index does not answer, or the hash differs.
    """
    name, version = requirement.split("==")
    known = {"name": name, "version": version, "dashes": name.count("-")}
    write_files(folder / "stand-in", {path: text.format(**known) for path, text in STAND_IN_SETUPTOOLS.items()})
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n", encoding="utf-8")
    source_only = ("--no-deps", "--no-binary=:all:", "--use-pep517", "--no-build-isolation")
    run_pip("download", *source_only, "--dest", folder, "-r", wanted, first_on_path=folder / "stand-in")
    (archive,) = folder.glob("*.tar.gz")
    return archive


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write small text files, path -> content, below `folder`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a source distribution into `folder`, plain files only, and return its one top folder.

    Raises
    ------
    VendorError
        If a name leads outside the folder, or the archive has not exactly one top folder.
    """
    tops = set()
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts:
                raise VendorError(f"{archive.name}: {member.name} leads outside the folder; not unpacked")
            tops.add(name.parts[0])
            # Links and devices have no place in a source distribution and are not made.
            content = tar.extractfile(member) if member.isfile() else None
            if content is not None:
                target = folder.joinpath(*name.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read())
    if len(tops) != 1:
        raise VendorError(f"{archive.name}: one top folder expected, found {sorted(tops)}")
    return folder / tops.pop()


def apply_patches(tree: Path, patches: tuple[Patch, ...] = PATCHES) -> None:
    """Change the files under `tree` and say so in each; nothing is written unless every patch fits.

    Raises
    ------
    VendorError
        If a file is missing or a pattern is found more or less often than its patch states.
    """
    changed: dict[Path, str] = {}
    for patch in patches:
        path = tree / patch.path
        if path not in changed:
            if not path.is_file():
                raise VendorError(f"{patch.path}: not there; this is not the source of Detectron2 0.6")
            changed[path] = path.read_text(encoding="utf-8")
        text, found = re.subn(patch.pattern, lambda _, new=patch.new: new, changed[path], flags=re.MULTILINE)
        if found != patch.count:
            raise VendorError(
                f"{patch.path}: {patch.pattern!r} found {found} times, {patch.count} expected; "
                "this is not the source of Detectron2 0.6"
            )
        changed[path] = text
    for path, text in changed.items():
        path.write_text(NOTICE + text, encoding="utf-8")


def recipe() -> str:
    """What a copy is made from, as a SHA-256: the source distribution and this script."""
    return hashlib.sha256(SHA256.encode() + Path(__file__).read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def changes(patches: tuple[Patch, ...] = PATCHES) -> str:
    """Say where the copy is from and which files were changed, as its licence asks."""
    files = "\n".join(f"- {path}" for path in dict.fromkeys(patch.path for patch in patches))
    added = "\n".join(f"- {path}" for path in NEW_FILES)
    moved = "\n".join(f"- {old} is {new}" for old, new in PROJECTS.items())
    return (
        f"Detectron2 0.6 (Apache-2.0, see LICENSE), from the source distribution {REQUIREMENT}\n"
        f"SHA-256 {SHA256}\n\n"
        "Changed by maskseg for current Python packages and to do without compiled ops:\n"
        f"{files}\n\nAdded:\n{added}\n\nMoved:\n{moved}\n\nRecipe {recipe()}\n"
    )


def arrange(tree: Path) -> Path:
    """Turn the unpacked source distribution into the package, in `tree`, and return its folder."""
    apply_patches(tree)
    write_files(tree, NEW_FILES)
    for source, target in PROJECTS.items():
        shutil.move(tree / source, tree / target)
    package = tree / "detectron2"
    shutil.copy(tree / "LICENSE", package)
    (package / CHANGES).write_text(changes(), encoding="utf-8")
    return package


def is_current(vendor: Path = VENDOR) -> bool:
    """Say whether the copy in `vendor` is there and made by this script as it is now."""
    listed = vendor / "detectron2" / CHANGES
    return listed.is_file() and recipe() in listed.read_text(encoding="utf-8")


def make(vendor: Path = VENDOR) -> bool:
    """Make the copy in `vendor` where it is not there or was made by another script.

    Returns
    -------
    bool
        Whether there was anything to do.

    Raises
    ------
    VendorError
        If the source distribution cannot be had, or is another one than the patches are for.
    """
    if is_current(vendor):
        return False
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        package = arrange(unpack(download(folder), folder))
        vendor.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a copy that is broken off leaves no package behind.
        beside = Path(tempfile.mkdtemp(dir=vendor))
        try:
            shutil.copytree(package, beside / "new")
            if (vendor / "detectron2").exists():
                (vendor / "detectron2").rename(beside / "old")
            (beside / "new").rename(vendor / "detectron2")
        finally:
            shutil.rmtree(beside)
    return True


def main() -> int:
    """Run the script; returns the exit status."""
    try:
        made = make()
    except VendorError as error:
        print(f"vendor_detectron2: error: {error}", file=sys.stderr)
        return 1
    print(f"{VENDOR / 'detectron2'}: {'made' if made else 'already there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
