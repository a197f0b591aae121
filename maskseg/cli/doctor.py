"""`maskseg doctor`: what is installed, what it runs on, and what is wrong with the remedy."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

import maskseg
from maskseg.cli.say import say
from maskseg.core.threads import available_cores

PACKAGE = Path(maskseg.__file__).parent
WEIGHTS = PACKAGE / "weights"
BUNDLED = PACKAGE / "_vendor" / "detectron2"
PIP = f"{sys.executable} -m pip"


@dataclass(frozen=True)
class Problem:
    """What is wrong, and the remedy.

    Attributes
    ----------
    what : str
        In half a sentence.
    install : tuple of str
        What pip is to install, as on its command line; that is what ``--fix`` does. Empty where only the user can
        decide.
    remedy : str
        What to do, where it is not that.
    """

    what: str
    install: tuple[str, ...] = ()
    remedy: str = ""

    def __str__(self) -> str:
        """One line."""
        quoted = [f"'{word}'" if set(word) & set("<>=![ ") else word for word in self.install]
        return f"{self.what}; {self.remedy or ' '.join(['run:', PIP, 'install', *quoted])}"


def installed_requirements() -> list[str]:
    """Return what maskseg's own metadata asks for, extras left out; empty where maskseg is not installed."""
    try:
        lines = importlib.metadata.requires("maskseg") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    return [line for line in lines if "extra ==" not in line]


def check_requirements(requirements: Iterable[str]) -> tuple[list[str], list[Problem]]:
    """Compare the installed packages with requirement lines.

    Parameters
    ----------
    requirements : iterable of str
        Lines as in setup.cfg, such as ``"numpy>=1.26"``.

    Returns
    -------
    tuple of (list of str, list of Problem)
        "NAME VERSION" of each package that is there, and the problems, each with its remedy.
    """
    from packaging.requirements import Requirement

    present, problems = [], []
    for line in requirements:
        wanted = Requirement(line)
        if wanted.marker and not wanted.marker.evaluate():
            continue
        try:
            version = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(Problem(f"{wanted.name} is missing", (str(wanted),)))
            continue
        present.append(f"{wanted.name} {version}")
        if not wanted.specifier.contains(version, prereleases=True):
            problems.append(Problem(f"{wanted.name} is {version}, {wanted.specifier} is needed", (str(wanted),)))
    return present, problems


def check_torch() -> tuple[list[str], list[Problem]]:
    """Describe the device, and run one torchvision op on the CPU: it fails where the two are not a pair.

    Returns
    -------
    tuple of (list of str, list of Problem)
        Lines of the report, and the problems, each with its remedy.
    """
    try:
        import torch
        import torchvision

        torchvision.ops.nms(torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.tensor([1.0]), 0.5)
    except Exception as error:  # whatever a broken build raises is the finding
        what = f"torch and torchvision do not work together ({_brief(error)})"
        return ["device: unknown"], [Problem(what, ("--force-reinstall", "torch", "torchvision"))]
    if not torch.cuda.is_available():
        return [f"device: cpu, {available_cores()} cores, {torch.get_num_threads()} threads"], []
    lines = []
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        lines.append(f"device: cuda:{index} {about.name}, {about.total_memory / 2**30:.0f} GiB")
    return lines, []


def check_detectron2() -> tuple[list[str], list[Problem]]:
    """Load what maskseg uses of Detectron2 and look for its compiled ops, which are optional.

    Returns
    -------
    tuple of (list of str, list of Problem)
        Lines of the report, and the problems, each with its remedy.
    """
    try:
        import detectron2

        for module in ("engine", "evaluation", "model_zoo", "modeling"):
            importlib.import_module(f"detectron2.{module}")
    except Exception as error:  # a build for another torch fails with more than ImportError
        if isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] not in ("", "detectron2"):
            raise  # a package that Detectron2 needs, and not Detectron2
        return ["Detectron2: does not load"], [
            Problem(f"Detectron2 does not load ({_brief(error)})", remedy=_remedy_for_detectron2())
        ]
    try:
        importlib.import_module("detectron2._C")
        ops = "present"
    except ImportError:
        ops = "absent (Mask R-CNN needs none)"
    where = Path(detectron2.__file__).parent
    whose = "maskseg's own copy" if where == BUNDLED else "this environment's, which goes before maskseg's own copy"
    return [f"Detectron2: {detectron2.__version__} in {where}, {whose}; compiled ops: {ops}"], []


def _remedy_for_detectron2() -> str:
    """Maskseg's own copy is there and not used, or is not there."""
    if BUNDLED.is_dir():
        return (
            f"maskseg has a copy of its own, which is used where no other is installed; run: {PIP} uninstall detectron2"
        )
    if (PACKAGE.parent / "setup.py").is_file():
        return f"run in maskseg's source folder: {PIP} install -e ."
    return f"run: {PIP} install --force-reinstall --no-deps maskseg"


def check_weights(folder: Path = WEIGHTS) -> tuple[list[str], list[Problem]]:
    """List the bundled models and read the header of each.

    Parameters
    ----------
    folder : Path
        Where the ``*.safetensors`` files are.

    Returns
    -------
    tuple of (list of str, list of Problem)
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
            problems.append(Problem(f"{file}: cannot be read ({_brief(error)})", remedy="install maskseg again"))
        else:
            lines.append(f"  {file.stem}: {count} tensors, {file.stat().st_size / 1e6:.1f} MB")
    return lines, problems


def _missing(error: ModuleNotFoundError) -> Problem:
    name = (error.name or "").partition(".")[0]
    return Problem(f"{name} is missing", (name,))


def _brief(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def examine() -> tuple[list[str], list[Problem]]:
    """Make the whole report.

    Returns
    -------
    tuple of (list of str, list of Problem)
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
            present, problems = [], [_missing(error)]
        lines.append(f"packages: {', '.join(present)}")
    else:
        problems = [Problem("maskseg itself is not installed", remedy=f"run in its source folder: {PIP} install -e .")]
    for check in (check_torch, check_detectron2, check_weights):
        try:
            more, wrong = check()
        except ModuleNotFoundError as error:
            more, wrong = [], [_missing(error)]
        lines += more
        problems += wrong
    return lines, problems


def doctor(
    fix: Annotated[
        bool, typer.Option("--fix", help="Have pip install what is missing or of a version that does not fit.")
    ] = False,
) -> None:
    """Print versions, device, Detectron2 and models, and what is wrong with the remedy.

    The exit status is 0 when all is well and 2 when something is broken.

    \b
    Examples:
      maskseg doctor
      maskseg doctor --fix
    """
    lines, problems = examine()
    for line in lines:
        say(line)
    if not problems:
        say("problems: none")
        return
    say(f"problems: {len(problems)}")
    for problem in problems:
        say(f"  {problem}")
    if fix and any(problem.install for problem in problems):
        raise typer.Exit(repair(problems))
    raise typer.Exit(2)


def repair(problems: Iterable[Problem]) -> int:
    """Have pip install what it can, and look again in a new process, which imports what is there now.

    Returns
    -------
    int
        The exit status: 0 when all is well afterwards.
    """
    from importlib.util import find_spec

    if find_spec("pip") is None:
        say(f"--fix needs pip, which this environment has not; run: {sys.executable} -m ensurepip", err=True)
        return 2
    # Requirements in one call, so that pip finds versions that fit together; what is forced is for itself, since
    # --force-reinstall would go for all of them.
    together = dict.fromkeys(word for problem in problems for word in problem.install if len(problem.install) == 1)
    forced = dict.fromkeys(problem.install for problem in problems if len(problem.install) > 1)
    for arguments in filter(None, [tuple(together), *forced]):
        say(f"fixing: pip install {' '.join(arguments)}")
        done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "install", *arguments])
        if done.returncode:
            say("pip could not install that; its own message is above", err=True)
            return 2
    return subprocess.run([sys.executable, "-m", "maskseg.cli.main", "doctor"]).returncode
