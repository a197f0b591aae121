"""The documentation: every page is in its contents, what is made of the code is whole, the pages with code run."""

import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
NOTEBOOKS = [page for page in sorted(DOCS.glob("*.md")) if "file_format: mystnb" in page.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("docs") / "generated"
    module.write(folder)
    return folder


@pytest.mark.slow
def test_every_page_is_in_the_contents(generated):
    listed = set(re.findall(r"^([\w/]+)$", (DOCS / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    there = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert listed == there | {f"generated/{path.stem}" for path in generated.glob("*.md")}


LINK = re.compile(r"\]\(([^)#\s]*)(#[^)]*)?\)")


def test_every_link_within_the_documentation_leads_to_a_file(generated):
    pages = [*DOCS.glob("*.md"), *generated.glob("*.md")]
    links = [(page, target) for page in pages for target, _ in LINK.findall(page.read_text(encoding="utf-8"))]
    within = [(page, target) for page, target in links if target and not re.match(r"[a-z]+:", target)]
    assert len(within) > 50
    lost = [
        f"{page.name}: {target}"
        for page, target in within
        # What is made stands in docs/generated once it is built.
        if not (page.parent / target).is_file() and not (generated.parent / target).is_file()
    ]
    assert not lost
    shown = [target for page, target in within if page.parent == generated and target.endswith(".png")]
    assert {Path(target).name for target in shown} == {
        "load.png",
        "nuclei.png",
        "peers.png",
        "protein_speed.png",
        "soak.png",
        "weak.png",
    }
    # Sphinx knows pages below docs/ alone.
    outside = [f"{page.name}: {target}" for page, target in within if target.endswith(".md") and "../.." in target]
    assert not outside


def test_every_config_key_has_its_default_and_a_comment(generated):
    from maskseg.models.config import load_config

    cfg = load_config("nuclei_R_18_FPN", ["MODEL.DEVICE", "cpu"])
    rows = re.findall(
        r"^\| `([\w.]+)` \| `([^`]*)` \| (.*) \|$", (generated / "config.md").read_text(), flags=re.MULTILINE
    )
    assert len(rows) > 50
    for key, _, what in rows:
        node = cfg
        for name in key.split("."):
            node = node[name]
        assert len(what) > 10, key


def test_every_command_is_there_with_its_options(generated):
    from maskseg.cli.main import COMMANDS

    text = (generated / "commands.md").read_text(encoding="utf-8")
    for name in COMMANDS:
        assert f"\n## {name}\n" in text
    assert "--expand" in text and "\n### models add\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("page", NOTEBOOKS, ids=lambda page: page.stem)
def test_the_pages_with_code_run(page, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="Jupyter is not installed: pip install 'maskseg[docs]'")
    read = pytest.importorskip("myst_nb.core.read", reason="MyST-NB is not installed: pip install 'maskseg[docs]'")
    from myst_parser.config.main import MdParserConfig

    monkeypatch.setenv("MASKSEG_ROOT", str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    text = page.read_text(encoding="utf-8")
    notebook = read.read_myst_markdown_notebook(text, MdParserConfig(), path=page)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    said = str([cell.get("outputs") for cell in notebook.cells])
    # A command whose output is cut by another fails unheard.
    assert "maskseg: error" not in said and "Traceback" not in said
    assert sum(cell.cell_type == "code" for cell in notebook.cells) >= 3
