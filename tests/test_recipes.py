"""Dockerfile, Apptainer recipe, CI file, issue forms and completion against what the package is."""

import configparser
import os
import re
import subprocess
import sys

import pytest
import yaml

# What a wheel is built from: tests/test_wheel.py builds it from no more than this.
SOURCES = {"LICENSE", "README.md", "configs", "maskseg", "pyproject.toml", "setup.cfg", "setup.py", "tools"}


@pytest.fixture(scope="module")
def about(repository):
    parser = configparser.ConfigParser()
    parser.read(repository / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def pythons(about):
    found = re.findall(r"Python :: (3\.\d+)", about["metadata"]["classifiers"])
    assert about["options"]["python_requires"] == f">={found[0]}"
    return found


@pytest.fixture(scope="module")
def recipes(repository):
    return {name: (repository / name).read_text(encoding="utf-8") for name in ("Dockerfile", "apptainer.def")}


@pytest.fixture(scope="module")
def jobs(repository):
    text = (repository / ".github/workflows/tests.yml").read_text(encoding="utf-8")
    return yaml.safe_load(text)["jobs"]


def runs_of(job):
    return [step["run"] for step in job["steps"] if "run" in step]


def test_recipes_take_a_python_and_extras_that_there_are(recipes, pythons, about):
    for name, text in recipes.items():
        assert set(re.findall(r"python:(3\.\d+)", text)) <= set(pythons), name
        extras = re.findall(r"\[([\w,]+)\]", text)
        assert extras, name
        assert set(extras[0].split(",")) <= set(about["options.extras_require"]), name


def test_recipes_have_what_the_wheel_is_built_from(repository, recipes):
    needed = SOURCES | {"constraints.txt"}
    ignore = (repository / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignore[0] == "*" and {line[1:] for line in ignore if line.startswith("!")} == needed
    copied = dict(re.findall(r"^    (\S+) /source/(\S+)$", recipes["apptainer.def"], flags=re.MULTILINE))
    assert set(copied) == needed and all(there == here for there, here in copied.items())
    assert all((repository / name).exists() for name in needed)


@pytest.mark.skipif(sys.platform == "win32", reason="needs bash")
def test_shell_of_recipes_and_ci_is_read_by_bash(repository, recipes, jobs):
    post = re.search(r"^%post\n(.*?)^%", recipes["apptainer.def"], flags=re.MULTILINE | re.DOTALL)[1]
    shell = re.findall(r"^RUN (.*?[^\\])$", recipes["Dockerfile"], flags=re.MULTILINE | re.DOTALL)
    assert len(shell) == 2
    ci = (repository / ".ci/run").read_text(encoding="utf-8")
    for text in (post, ci, *shell, *(text for job in jobs.values() for text in runs_of(job))):
        done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}: {done.stderr}"


def test_ci_runs_on_every_system_and_on_the_pythons_that_are_promised(jobs, pythons):
    matrix = jobs["newest"]["strategy"]["matrix"]["include"]
    assert {row["os"].split("-")[0] for row in matrix} == {"ubuntu", "macos", "windows"}
    assert {row["python"] for row in matrix} == set(pythons)
    of_lowest = [step["with"]["python-version"] for step in jobs["lowest"]["steps"] if "python-version" in str(step)]
    assert of_lowest == [pythons[0]]
    assert any("--resolution lowest-direct" in text for text in runs_of(jobs["lowest"]))


def test_ci_runs_scripts_that_there_are(repository, jobs):
    scripts = [path for job in jobs.values() for text in runs_of(job) for path in re.findall(r"\b\w+/\w+\.py\b", text)]
    assert len(scripts) >= 2 and all((repository / path).is_file() for path in scripts)
    folders = [
        step["working-directory"] for job in jobs.values() for step in job["steps"] if "working-directory" in step
    ]
    assert all((repository / folder).is_dir() for folder in folders)


def test_issue_forms_ask_for_something_under_different_names(repository):
    forms = [path for path in (repository / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) >= 3
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"], path.name
        asked = [field["id"] for field in form["body"] if field["type"] != "markdown"]
        assert asked and len(asked) == len(set(asked)), path.name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"_MASKSEG_COMPLETE": "complete_bash", "COMP_WORDS": "maskseg pred", "COMP_CWORD": "1"}, "predict"),
        ({"_MASKSEG_COMPLETE": "complete_bash", "COMP_WORDS": "maskseg predict --ch", "COMP_CWORD": "2"}, "--channel"),
        ({"_MASKSEG_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "maskseg models a"}, '"add"'),
        (
            {
                "_MASKSEG_COMPLETE": "complete_fish",
                "_TYPER_COMPLETE_FISH_ACTION": "get-args",
                "_TYPER_COMPLETE_ARGS": "maskseg ev",
            },
            "evaluate",
        ),
    ],
)
def test_shells_complete_commands_and_options(settings, expected):
    command = [sys.executable, "-c", "import sys; sys.argv[0] = 'maskseg'; from maskseg.cli.main import main; main()"]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True)
    assert expected in done.stdout, done.stderr
