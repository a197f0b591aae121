"""Write requirements-hashes.txt: what CI installs, with the checksums of the files for every system and Python.

python tools/hashes.py            needs uv, which asks the index for checksums and loads none of the files
python tools/hashes.py --build    prints the part of it that has to be there before the rest is built
"""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HASHES = ROOT / "requirements-hashes.txt"
# Beside what setup.cfg asks for: what the wheel is built with, as pip checks nothing that it loads for that by itself.
BUILD = ("setuptools", "wheel")
HEAD = """\
# The packages that CI installs, on every system and Python, with the checksums of their files: pip takes no others.
#   pip install --require-hashes -r requirements-hashes.txt
# Written by `make hashes` from setup.cfg and constraints.txt.
"""


def wanted() -> list[str]:
    """Requirements of maskseg and its tests."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = config["options"]["install_requires"] + "\n" + config["options.extras_require"]["test"]
    return [*(line for line in lines.splitlines() if line.strip() and not line.startswith("#")), *BUILD]


def entry(name: str, text: str) -> str:
    """The lines of a package in the file."""
    found = re.search(rf"^{name}==.*(\n    --hash=.*)+\n", text, re.MULTILINE)
    assert found, name
    return found[0]


def main() -> int:
    """Ask uv, or print what builds."""
    if sys.argv[1:] == ["--build"]:
        print("".join(entry(name, HASHES.read_text(encoding="utf-8")) for name in BUILD), end="")
        return 0
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "-c", str(ROOT / "constraints.txt"), "--universal"]
    command += ["--python-version", "3.11", "--generate-hashes", "--no-header", "--no-annotate", "-q"]
    found = subprocess.run(command, input="\n".join(wanted()), stdout=subprocess.PIPE, text=True, check=False)
    if found.returncode:
        return found.returncode
    HASHES.write_text(HEAD + found.stdout, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
