"""docs/architecture.md names what there is: functions, files, packages; its examples are the files that tests run."""

import importlib
import re
from configparser import ConfigParser
from functools import reduce
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL))
NAMES = sorted({text for text in CODE if re.fullmatch(r"maskseg(\.\w+)*(:[\w.]+)?", text) and text not in ("maskseg",)})
# Entry points are groups, not modules.
GROUPS = {"maskseg.formats.toy", "maskseg.tasks"}
FILES = sorted(
    {text for text in CODE if re.fullmatch(r"(docs|tests|tools|maskseg|configs)/[\w/.]*|pyproject\.toml", text)}
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name not in GROUPS])
def test_each_name_is_there(name):
    module, _, attributes = name.partition(":")
    reduce(getattr, filter(None, attributes.split(".")), importlib.import_module(module))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_there(name):
    assert (ROOT / name).exists()


def test_the_page_names_enough_to_be_tested():
    assert len(NAMES) > 60 and len(FILES) > 8


def test_the_table_has_every_package_in_the_order_of_the_layers():
    table = re.findall(r"^\| `maskseg\.(\w+)` \|", PAGE, flags=re.MULTILINE)
    there = {path.parent.name for path in (ROOT / "maskseg").glob("*/__init__.py")} - {"_vendor"}
    assert set(table) | {"serve"} >= there and set(table) <= there
    layers = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("layers = [")[2].partition("]")[0]
    above = re.findall(r"\w+", layers)
    ranks = [above.index(name) for name in table]
    # Two packages of one layer may stand in either order.
    same = {frozenset(pair) for pair in re.findall(r"(\w+) \| (\w+)", layers)}
    for first, second in zip(range(len(table)), range(1, len(table)), strict=False):
        assert ranks[first] > ranks[second] or frozenset((table[first], table[second])) in same, table[second]


@pytest.mark.parametrize("name", ["toy_format.py", "toy_network.py"])
def test_each_example_is_the_file(name):
    code = PAGE.partition(f"<!-- copy of docs/examples/{name} -->\n```python\n")[2].partition("```")[0]
    assert code == (ROOT / "docs" / "examples" / name).read_text(encoding="utf-8")


def test_the_table_of_a_task_has_all_of_its_parts_with_their_defaults():
    from maskseg.models.tasks import Task

    rows = re.findall(
        r"^\| `(\w+)` \| [^|]* \| `?([^|`]+)`? \|$", PAGE.partition("## Add a task")[2], flags=re.MULTILINE
    )
    fields = Task.__dataclass_fields__
    assert [name for name, _ in rows] == list(fields)
    for name, default in rows:
        if isinstance(fields[name].default, str):
            assert default == fields[name].default


def test_the_arguments_of_a_format_are_those_there_are():
    from maskseg.formats.format import Format

    table = PAGE.partition("| argument | what |")[2].partition("\n\n")[0]
    names = {name for row in table.splitlines() for name in re.findall(r"`(\w+)`", row.partition(" | ")[0])}
    assert names and names <= set(Format.__dataclass_fields__)


def test_each_optional_package_is_called_an_extra():
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    named = {"bioio": "formats", "Ray": "cluster", "Optuna": "tune"}
    for package, extra in named.items():
        assert f"{package} (an" in PAGE and package.lower() in setup["options.extras_require"][extra]
