"""Every command in README and docs: its options exist, and it is run here or says why not.

Commands that a sentence names are there with their options, and so are targets of make and scripts, on all pages.
"""

import re
import shlex
import shutil
from pathlib import Path

import pytest

from maskseg.cli.main import COMMANDS, load_command

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "datasets/README.md",
    ROOT / "configs/README.md",
]
# With those for developers. The list of changes tells of commands that were.
ALL_PAGES = [
    *PAGES,
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md", "maskseg/weights/CARD.md")),
    *(ROOT / name for name in ("Dockerfile", "apptainer.def")),
]

# Run below, in this order, in a folder that has what they name.
RUN = [
    "maskseg predict datasets/sample/heldout -o out/",
    "maskseg evaluate --truth datasets/sample/heldout --pred out/",
    "maskseg convert labels mine/ -o data/mine",
    "maskseg check data/mine --page check.html --fix data/fixed",
    "maskseg split data/fixed",
    "maskseg report data data/fixed -o data.html",
    "maskseg convert geojson corrected/ --images images/ -o data/mine",
    "maskseg models export nuclei -o nuclei.zip",
    "maskseg models add tissue.safetensors",
    "maskseg predict images/ -o out/ --model tissue",
    "maskseg models remove tissue",
    "maskseg predict plate/ -o out/ --channel DAPI --expand 2um --texture --formats table,labels,anndata",
    "maskseg predict stack.ome.tif -o out/ --channel DAPI --plane z=max",
    "MASKSEG_MAX_GB=16 maskseg predict images/ -o out/",
    "maskseg predict images/ -o out/",
]
# Why the others are not: what they need, and which test runs the same command on less.
ELSEWHERE = {
    r"predict slide\.svs": "needs a slide: tests/inference/test_tiled_run.py, tests/imaging/test_slides.py",
    r"--cluster ray": "needs Ray and shared folders: tests/inference/test_ray_executor.py",
    r"SLURM_ARRAY_TASK_ID": "needs a batch system; it is predict on some files",
    r"\btoy\b|runs/toy": "needs the package of the example: tests/docs/test_examples.py, tests/docs/test_network.py",
    r"^maskseg train": "takes hours, or GPUs: tests/cli/test_train.py, test_unet.py, test_protein.py",
    r"--model (runs/|MODEL)|models export runs/": "needs a training: tests/cli/test_train.py, test_tune.py",
    r"stage1_test|stage1_train|data/dsb2018|ultrasound|monuseg|tissue_images": "needs data that is not in the "
    "repository: tests/cli/test_convert*.py, test_submission.py, test_ultrasound.py, test_split.py, test_compare.py",
    r"convert coco instances\.json": "needs annotations: tests/formats/test_coco_reader.py",
    r"(--truth|split) data/fixed": "needs results on a part: tests/cli/test_evaluate.py, test_split.py",
    r"data/sample$": "tests/docs/test_architecture.py has the page's other commands; converting: tests/convert",
    r"--reviewed": "needs marks of what was looked at: tests/formats/test_reviewed.py",
    r"data/other|data/conic": "needs data that is not in the repository: tests/cli/test_classes.py, test_split.py",
    r"images/ -o out/ --formats geojson$": "the same as predict images/ -o out/: tests/cli/test_predict.py",
    r"^maskseg serve": "goes on until it is stopped: tests/serve",
    r"https://": "needs a network: tests/models/test_library.py fetches from a server of its own",
}


def commands_of(text):
    """Commands in the blocks of a page, without the remark behind them."""
    text = re.sub(r"\\\n\s*", "", text)
    for line in re.findall(r"^(?:    )?((?:[A-Z_]+=\S+ )?maskseg [a-z].*)$", text, flags=re.MULTILINE):
        command = re.split(r"\s{2,}|\s+#|\s*2>&1|\s*\|", line)[0].strip()
        words = command.split()
        if words[words.index("maskseg") + 1] in COMMANDS:
            yield command


COMMANDS_IN_PAGES = sorted({command for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"))})
# The pages with code are run as they are: tests/docs/test_pages.py.
IN_NOTEBOOKS = {
    command
    for page in PAGES
    for cell in re.findall(r"^%%bash\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for command in commands_of(cell)
}


def named_in(program):
    """What stands between backticks, or in a block or a comment of its own, on any page and begins with a program."""
    pattern = re.compile(rf"`({program} [^`]+)`|^(?:#? {{3,4}})({program} .*)$", flags=re.MULTILINE)
    for page in ALL_PAGES:
        for within, alone in pattern.findall(page.read_text(encoding="utf-8")):
            yield " ".join(within.split()) or re.split(r"\s{2,}|\s#", alone)[0].strip()


def options_of(command):
    return {option for known in command.params for option in (*known.opts, *known.secondary_opts)} | {"--help"}


NAMED = sorted({text for text in named_in("maskseg") if re.match(r"maskseg [a-z]", text)})


def test_there_are_commands():
    assert len(COMMANDS_IN_PAGES) > 40 and len(IN_NOTEBOOKS) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("text", COMMANDS_IN_PAGES)
def test_each_command_has_the_options_that_it_is_given(text):
    if " toy " in text:
        pytest.skip("of a package that is not installed: tests/docs/test_examples.py")
    words = [word for word in shlex.split(text) if not re.match(r"[A-Z_]+=", word)][1:]
    command = load_command(words[0], COMMANDS[words[0]])
    names = words[:1]
    words = words[1:]
    while hasattr(command, "commands"):
        names, command, words = [*names, words[0]], command.commands[words[0]], words[1:]
    # Reads the options, and calls nothing.
    with command.make_context(" ".join(names), words):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("text", NAMED)
def test_each_command_that_is_named_is_there_with_the_options_that_are_named(text):
    if " toy " in text:
        pytest.skip("of a package that is not installed: tests/docs/test_examples.py")
    name, *words = text.split()[1:]
    command = load_command(name, COMMANDS[name])
    while hasattr(command, "commands") and words and re.match(r"[a-z|]+$", words[0]):
        first, *others = words.pop(0).split("|")
        assert {first, *others} <= set(command.commands)
        command = command.commands[first]
    options = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
    # FORMAT stands for any of the formats.
    of_any = [options_of(each) for each in getattr(command, "commands", {}).values()]
    assert options <= options_of(command).union(*of_any)


def test_each_target_of_make_and_each_script_that_is_named_is_there():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    of_make = [text.split()[1] for text in named_in("make")]
    assert len(of_make) > 5 and set(of_make) <= targets
    scripts = [text.split() for text in named_in("python") if ".py" in text]
    assert len(scripts) > 10
    for _, path, *words in scripts:
        told = (ROOT / path).read_text(encoding="utf-8")
        # The wrapper of a command has the command's options.
        options = [word for word in words if word.startswith("--") and word != "--config-file"]
        assert all(f'"{option}"' in told for option in options), path


@pytest.mark.slow
@pytest.mark.parametrize("text", COMMANDS_IN_PAGES)
def test_each_command_is_run_or_says_why_not(text):
    reasons = [reason for pattern, reason in ELSEWHERE.items() if re.search(pattern, text)]
    assert text in RUN or text in IN_NOTEBOOKS or reasons, f"run {text} here, or say why not"


def test_what_is_run_is_in_the_pages_and_each_reason_is_needed():
    assert set(RUN) <= set(COMMANDS_IN_PAGES)
    for pattern in ELSEWHERE:
        assert any(re.search(pattern, text) for text in COMMANDS_IN_PAGES), pattern
    for path in re.findall(r"tests/[\w/]+\.py", " ".join(ELSEWHERE.values())):
        assert (ROOT / path).is_file(), path


@pytest.mark.slow
def test_the_commands_run_one_after_another(maskseg, tmp_path, monkeypatch):
    import numpy as np
    import tifffile

    sample = sorted((ROOT / "datasets/sample/heldout").iterdir())[:2]
    for folder in sample:
        (tmp_path / "datasets/sample/heldout").mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder, tmp_path / "datasets/sample/heldout" / folder.name)
    monkeypatch.setenv("MASKSEG_MODELS", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)

    def run(*words):
        status, _, errors = maskseg(*words)
        assert status == 0, f"{words}: {errors}"

    run("models", "export", "nuclei", "-o", "tissue.safetensors")
    run("predict", "datasets/sample/heldout", "-o", "first", "--tta", "none", "--formats", "labels,geojson")
    for name in ("images", "mine/images", "mine/masks", "corrected", "plate"):
        (tmp_path / name).mkdir(parents=True)
    for folder in sample:
        shutil.copy(folder / "images" / f"{folder.name}.png", tmp_path / "images")
        shutil.copy(folder / "images" / f"{folder.name}.png", tmp_path / "mine/images")
        shutil.copy(tmp_path / "first/labels" / f"{folder.name}.tif", tmp_path / "mine/masks")
        shutil.copy(tmp_path / "first/geojson" / f"{folder.name}.geojson", tmp_path / "corrected")
    grey = np.hypot(*(np.mgrid[:96, :96] - 48)) < 12
    pixels = np.where(grey, 200, 10).astype(np.uint8)
    about = {"Channel": {"Name": ["DAPI", "CD3"]}, "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
    # Two channels, and in the stack two planes.
    tifffile.imwrite(tmp_path / "plate/a.ome.tif", np.stack([pixels, pixels // 2]), metadata={"axes": "CYX", **about})
    stack = np.stack([np.stack([pixels, pixels // 2])] * 2)
    tifffile.imwrite(tmp_path / "stack.ome.tif", stack, metadata={"axes": "ZCYX", **about})
    for text in RUN:
        if "-o data/mine" in text:
            shutil.rmtree(tmp_path / "data/mine", ignore_errors=True)
        words = shlex.split(text)
        start = words.index("maskseg")
        with monkeypatch.context() as only_here:
            for name, value in (word.split("=") for word in words[:start]):
                only_here.setenv(name, value)
            run(*words[start + 1 :])
    assert (tmp_path / "out/nuclei.h5ad").is_file() and (tmp_path / "check.html").is_file()
