"""How Sphinx makes the documentation: ``make docs``. Offline; the pages with code are executed."""

import os
import re
import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import generate  # noqa: E402
from docutils import nodes  # noqa: E402

import maskseg  # noqa: E402

project = "maskseg"
author = "the authors of maskseg"
version = release = maskseg.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build", "examples"]
html_theme = "pydata_sphinx_theme"
html_title = "maskseg"
html_static_path = ["_static"]
html_css_files = ["maskseg.css"]
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": True,
    "show_toc_level": 2,
    "navbar_center": [],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}
# All pages under their captions; the theme's own shows those of one section only.
html_sidebars = {"**": ["globaltoc.html"]}
copyright = "the authors of maskseg, Apache-2.0"

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
# What a command prints is one block, in however many pieces it came.
nb_merge_streams = True
# A kernel starts in the folder of its page; its first cell goes to a folder of its own.
os.environ["MASKSEG_ROOT"] = str(ROOT)
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Nothing of Jupyter asks for a network, or says that it would.
os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")

napoleon_google_docstring = False
napoleon_use_rtype = False
# Lines of prose in docstrings are no references.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "none"

# Pages that lie elsewhere in the repository, and what they are called here.
ELSEWHERE = {
    "../configs/README.md": "generated/configs.md",
    "../datasets/README.md": "generated/datasets.md",
    "../benchmarks/README.md": "generated/benchmarks.md",
    "../maskseg/weights/CARD.md": "generated/card.md",
}


def _links(app, name, source):
    """Links that hold in the repository hold in the pages, too; those to code are text here."""
    text = source[0]
    for there, here in ELSEWHERE.items():
        text = text.replace(f"]({there}", f"]({here}")
    source[0] = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\.py\)", r"\1", text)


def _without_magic(app, doctree):
    """A command is shown as it is typed into a terminal, without what has Jupyter give it to a shell."""
    for block in list(doctree.findall(nodes.literal_block)):
        magic, _, commands = block.astext().partition("\n")
        if magic == "%%bash":
            block["language"] = "bash"
            block.replace_self(nodes.literal_block(commands, commands, **block.attributes))


def setup(app):
    """Write the pages that are made of the code, before Sphinx looks for pages."""
    generate.write(DOCS / "generated")
    app.connect("source-read", _links)
    app.connect("doctree-read", _without_magic)
