"""How large a module and a function may be. Which may import which, lint-imports says."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LINES_OF_A_MODULE, LINES_OF_A_FUNCTION = 400, 60
FOLDERS = ("maskseg", "tests", "tools", "benchmarks", "docs")


def modules(repository: Path) -> list[Path]:
    """Every module of ours; maskseg/_vendor is Detectron2."""
    found = [path for folder in FOLDERS for path in (repository / folder).rglob("*.py")]
    return [path for path in found if "_vendor" not in path.parts]


def long_functions(text: str) -> Iterator[str]:
    """Functions with more lines than they may have, from the first statement to the last.

    Signature and docstring do not count: those of a command are its options and its help, and a public function has
    all that is to be known of it in its docstring.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            if lines > LINES_OF_A_FUNCTION:
                yield f"{node.name} has {lines} lines"


def test_modules_are_short_enough_to_be_read(repository):
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules(repository)}
    assert len(lengths) > 100
    assert not {str(path): lines for path, lines in lengths.items() if lines > LINES_OF_A_MODULE}


@pytest.mark.slow
def test_functions_are_short_enough_to_be_read(repository):
    long = {str(path): [*long_functions(path.read_text(encoding="utf-8"))] for path in modules(repository)}
    assert not {path: names for path, names in long.items() if names}


@pytest.mark.parametrize(("lines", "long"), [(LINES_OF_A_FUNCTION, 0), (LINES_OF_A_FUNCTION + 1, 1)])
def test_what_is_too_long_is_found(lines, long):
    text = "def work(\n    a,\n):\n" + '    """What.\n\n    It does.\n    """\n' + "    a += 1\n" * lines
    assert len([*long_functions(text)]) == long
