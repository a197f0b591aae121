"""`maskseg doctor`: what is installed, what it runs on, and what is wrong with the remedy."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

import typer

import maskseg

WEIGHTS = Path(maskseg.__file__).parent / "weights"
PIP = f"{sys.executable} -m pip"


def installed_requirements() -> list[str]:
    """Return what maskseg's own metadata asks for, extras left out; empty where maskseg is not installed."""
    try:
        lines = importlib.metadata.requires("maskseg") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in lines if "extra ==" not in line]


def check_requirements(requirements: Iterable[str]) -> tuple[list[str], list[str]]:
    """Compare the installed packages with requirement lines.

    Parameters
    ----------
    requirements : iterable of str
        Lines as in setup.cfg, such as ``"numpy>=1.26"``.

    Returns
    -------
    tuple of (list of str, list of str)
        "NAME VERSION" of each package that is there, and the problems, each with its remedy.
    """
    from packaging.requirements import Requirement

    present, problems = [], []
    for line in requirements:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        remedy = f"run: {PIP} install '{wanted}'"
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"{wanted.name} is missing; {remedy}")
            continue
        present.append(f"{wanted.name} {version}")
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(f"{wanted.name} is {version}, {wanted.specifier} is needed; {remedy}")
    return present, problems


def check_torch() -> tuple[list[str], list[str]]:
    """Describe the device, and run one torchvision op on the CPU: it fails where the two are not a pair.

    Returns
    -------
    tuple of (list of str, list of str)
        Lines of the report, and the problems, each with its remedy.
    """
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:  # whatever a broken build raises is the finding
        return ["device: unknown"], [
            f"torch and torchvision do not work together ({_brief(error)}); "
            f"run: {PIP} install -c constraints.txt --force-reinstall torch torchvision"
        ]
    if not torch.cuda.is_available():
        return [f"device: cpu, {os.cpu_count()} cores, {torch.get_num_threads()} threads"], []
    lines = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        lines.append(f"device: cuda:{index} {about.name}, {about.total_memory / 2**30:.0f} GiB")
    return lines, []


def check_detectron2() -> tuple[list[str], list[str]]:
    """Load what maskseg uses of Detectron2 and look for its compiled ops, which are optional.

    Returns
    -------
    tuple of (list of str, list of str)
        Lines of the report, and the problems, each with its remedy.
    """
    remedy = (
        f"run with the wheel of `make wheel`: {PIP} install --no-deps detectron2-0.6-py3-none-any.whl, "
        f"or in maskseg's source folder: {sys.executable} tools/install_detectron2.py"
    )
    try:
        import detectron2

        for module in ("engine", "evaluation", "model_zoo", "modeling"):
            importlib.import_module(f"detectron2.{module}")
    except Exception as error:  # a build for another torch fails with more than ImportError
        return ["Detectron2: does not load"], [f"Detectron2 does not load ({_brief(error)}); {remedy}"]
    try:
        importlib.import_module("detectron2._C")
        ops = "present"
    except ImportError:
        ops = "absent (Mask R-CNN needs none)"
    where = Path(detectron2.__file__).parent
    return [f"Detectron2: {detectron2.__version__} in {where}; compiled ops: {ops}"], []


def check_weights(folder: Path = WEIGHTS) -> tuple[list[str], list[str]]:
    """List the bundled models and read the header of each.

    Parameters
    ----------
    folder : Path
        Where the ``*.safetensors`` files are.

    Returns
    -------
    tuple of (list of str, list of str)
        Lines of the report, and the problems, each with its remedy.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return [f"models: none in {folder}; train one, or give a checkpoint to predict"], []
    lines, problems = [f"models: {len(files)} in {folder}"], []
    from safetensors import safe_open

    for file in files:
        try:
            with safe_open(file, framework="numpy") as model:
                count = len(model.keys())
        except Exception as error:  # safetensors' own error type, or the operating system's
            problems.append(f"{file}: cannot be read ({_brief(error)}); install maskseg again")
        else:
            lines.append(f"  {file.stem}: {count} tensors, {file.stat().st_size / 1e6:.1f} MB")
    return lines, problems


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def examine() -> tuple[list[str], list[str]]:
    """Make the whole report.

    Returns
    -------
    tuple of (list of str, list of str)
        Lines of the report, and the problems, each with its remedy.
    """
    lines = [
        f"maskseg {maskseg.__version__} in {Path(maskseg.__file__).parent}",
        f"Python {platform.python_version()} ({sys.executable}) on {platform.system()} {platform.machine()}",
    ]
    requirements = installed_requirements()
    if requirements:
        try:
            present, problems = check_requirements(requirements)
        except ModuleNotFoundError as error:
            present, problems = [], [f"{error.name} is missing; run: {PIP} install {error.name}"]
        lines.append(f"packages: {', '.join(present)}")
    else:
        problems = [f"maskseg itself is not installed; run in its source folder: {PIP} install -e ."]
    for check in (check_torch, check_detectron2, check_weights):
        try:
            more, wrong = check()
        except ModuleNotFoundError as error:
            more, wrong = [], [f"{error.name} is missing; run: {PIP} install {error.name}"]
        lines += more
        problems += wrong
    return lines, problems


def doctor() -> None:
    """Print versions, device, Detectron2 and models, and what is wrong with the remedy.

    The exit status is 0 when all is well and 2 when something is broken.

    \b
    Examples:
      maskseg doctor
    """
    lines, problems = examine()
    for line in lines:
        typer.echo(line)
    if not problems:
        typer.echo("problems: none")
        return
    typer.echo(f"problems: {len(problems)}")
    for problem in problems:
        typer.echo(f"  {problem}")
    raise typer.Exit(2)
