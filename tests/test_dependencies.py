"""What is installed is pinned by checksums, says its licence, and fits together."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import dependencies, hashes

PIN = re.compile(r"^([\w.-]+)==([^\s;\\]+)", re.MULTILINE)


def pins(text):
    return [(canonicalize_name(name), version) for name, version in PIN.findall(text)]


def test_every_requirement_has_checksums_of_the_version_that_is_pinned(repository):
    text = hashes.HASHES.read_text(encoding="utf-8")
    assert text.startswith(hashes.HEAD)
    entries = [entry for entry in re.split(r"^(?=\w)", text, flags=re.MULTILINE) if PIN.match(entry)]
    assert len(entries) > 100
    assert not [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry]
    held = pins(text)
    constrained = dict(pins((repository / "constraints.txt").read_text(encoding="utf-8")))
    assert not [pin for pin in held if constrained.get(pin[0], pin[1]) != pin[1]]
    for line in hashes.wanted():
        requirement = Requirement(line)
        versions = [version for name, version in held if name == canonicalize_name(requirement.name)]
        assert versions, line
        assert all(requirement.specifier.contains(version) for version in versions), line


def test_ci_takes_nothing_without_a_checksum(repository):
    text = (repository / ".github" / "workflows" / "tests.yml").read_text(encoding="utf-8")
    assert "--require-hashes --no-build-isolation -r requirements-hashes.txt" in text


@pytest.mark.slow
def test_every_package_that_is_needed_says_a_licence_and_none_of_them_is_copyleft_alone():
    core = dependencies.needed("maskseg", ())
    assert len(core) > 40
    licences = {name: dependencies.licence(dist) for name, dist in core.items() if dist}
    assert not [name for name, said in licences.items() if not said]
    assert not [name for name, said in licences.items() if "GPL" in said and "LGPL" not in said]


def test_what_is_missing_or_of_another_version_is_named():
    assert list(dependencies.misfits(dependencies.needed("packaging", ()))) == []

    class Old:
        requires = ("numpy<1", "maskseg-of-nobody", 'x; extra == "y"')

    assert len(list(dependencies.misfits({"old": Old()}))) == 2


@pytest.mark.parametrize("changed", [False, True])
def test_a_file_that_was_changed_is_found(tmp_path, changed):
    from importlib.metadata import Distribution

    folder = tmp_path / "a-1.dist-info"
    folder.mkdir()
    (tmp_path / "a.py").write_text("1" if not changed else "2")
    (folder / "METADATA").write_text("Name: a\nVersion: 1\n")
    # The SHA-256 of "1".
    (folder / "RECORD").write_text("a.py,sha256=a4ayc_80_OGda4BO_1o_V0etpOqiLx1JwB5S3beHW0s,1\n")
    assert len(list(dependencies.changed_files(Distribution.at(folder)))) == changed
