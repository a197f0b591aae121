"""The pages that are made of the code: every command with its options, every config key with its comment."""

import ast
import inspect
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def write(folder):
    """Write all of them into a folder."""
    folder.mkdir(exist_ok=True)
    pages = {
        "commands": commands(),
        "config": config_keys(),
        "configs": (ROOT / "configs" / "README.md").read_text(encoding="utf-8"),
        "datasets": (ROOT / "datasets" / "README.md").read_text(encoding="utf-8"),
        "benchmarks": (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8"),
        "card": (ROOT / "maskseg" / "weights" / "CARD.md").read_text(encoding="utf-8").split("---\n", 2)[2],
    }
    places = {
        "](../maskseg/weights/CARD.md": "](card.md",
        "](../../docs/": "](../",
        "](protein_speed.png": "](../../benchmarks/protein_speed.png",
    }
    for name, text in pages.items():
        for there, here in places.items():
            text = text.replace(there, here)
        text = re.sub(r"\[([^\]]+)\]\(\.\./[^)]*\.py\)", r"\1", text)
        path = folder / f"{name}.md"
        # Unchanged pages are not made again.
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


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
