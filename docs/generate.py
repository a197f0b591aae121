"""The pages that are made of the code: every command with its options, every config key with its comment."""

import ast
import inspect
import os
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


# Pages that stand in the repository with what they describe.
PAGES = {
    "configs": "configs/README.md",
    "datasets": "datasets/README.md",
    "benchmarks": "benchmarks/README.md",
    "card": "maskseg/weights/CARD.md",
}


def write(folder):
    """Write all of them into a folder of docs/."""
    folder.mkdir(exist_ok=True)
    pages = {"commands": commands(), "config": config_keys()}
    for name, source in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        # The card begins with fields for machines.
        pages[name] = relinked(text.split("---\n", 2)[2] if text.startswith("---\n") else text, ROOT / source, folder)
    for name, text in pages.items():
        path = folder / f"{name}.md"
        # Unchanged pages are not made again.
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def relinked(text, source, folder):
    """A page with its links as they are from another folder.

    A link to a page that is made here leads to that; to something below docs/ or a picture, to the same file; what is
    no page at all, as a script, keeps its name alone.
    """
    made = {(ROOT / path).resolve(): f"{name}.md" for name, path in PAGES.items()}

    def link(match):
        mark, words, target, anchor = match.groups(default="")
        if re.match(r"[a-z]+:", target) or not target:
            return match[0]
        path = (source.parent / target).resolve()
        if path in made:
            return f"{mark}[{words}]({made[path]}{anchor})"
        if path.suffix == ".png" or (ROOT / "docs") in path.parents:
            return f"{mark}[{words}]({os.path.relpath(path, folder)}{anchor})"
        return words

    return re.sub(r"(!?)\[([^\]]+)\]\(([^)#\s]*)(#[^)]*)?\)", link, text)


def commands():
    """Each command with the text of its --help."""
    from maskseg.cli.main import COMMANDS, load_command

    lines = ["# Commands", "", "What `maskseg COMMAND --help` says.", ""]

    def add(words, command):
        context = command.make_context(
            f"maskseg {' '.join(words)}", [], resilient_parsing=True, terminal_width=100, max_content_width=100
        )
        heading = "##" if len(words) == 1 else "###"
        lines.extend([f"{heading} {' '.join(words)}", "", "```text", command.get_help(context).strip(), "```", ""])
        for name, inner in getattr(command, "commands", {}).items():
            add([*words, name], inner)

    for name, where in COMMANDS.items():
        add([name], load_command(name, where))
    return "\n".join(lines)


def config_keys():
    """Each key that maskseg adds to Detectron2's, with its default and the comment above it."""
    from maskseg.models import config

    lines = [
        "# Config keys",
        "",
        "The keys that maskseg adds to Detectron2's; any of them can be given behind a command, as in",
        "`maskseg train --from nuclei --data data/mine SOLVER.MAX_ITER 400`. Detectron2's own keys, such as those of",
        "SOLVER, MODEL and TEST, keep their meaning.",
        "",
    ]
    source = Path(inspect.getsourcefile(config)).read_text(encoding="utf-8")
    tree, text = ast.parse(source), source.splitlines()
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef) or not re.match(r"_add_", function.name):
            continue
        rows, said = [], ""
        for node in function.body:
            found = _key(node)
            if found is None:
                continue
            above = []
            for number in range(node.lineno - 2, -1, -1):
                comment = re.match(r"\s*# ?(.*)", text[number])
                if comment is None:
                    break
                above.insert(0, comment[1])
            # Keys that follow each other share the comment of the first.
            said = " ".join(above) if above else said
            rows.append(f"| `{found[0]}` | `{found[1]}` | {said.replace('|', ' or ')} |")
        if rows:
            title = (ast.get_docstring(function) or function.name).splitlines()[0].rstrip(".")
            lines += [f"## {title}", "", "| key | default | what |", "|---|---|---|", *rows, ""]
    return "\n".join(lines)


def _key(node):
    """Name and default of a key that a statement ``cfg.A.B = value`` adds."""
    if not isinstance(node, ast.Assign) or len(node.targets) != 1:
        return None
    name = ast.unparse(node.targets[0])
    value = ast.unparse(node.value)
    if not name.startswith("cfg.") or value.startswith(("Node(", "CfgNode(")):
        return None
    return name.removeprefix("cfg."), value
