"""Packages of extras: one that is missing and one that is broken are told apart."""

import pytest

from maskseg.core.errors import InputError
from maskseg.core.optional import need


def test_a_package_that_is_missing_is_to_be_installed():
    with pytest.raises(InputError, match=r"^x needs the package no_such; install it with: pip install 'maskseg\[e\]'$"):
        need("no_such.part", "e", "x")
    with pytest.raises(InputError, match=r"pip install no-such$"):
        need("no_such", "", "x")


def test_one_that_is_there_and_broken_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("from json import no_such_name\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"one, which is there .* cannot import name 'no_such_name' .* --upgrade"):
        need("broken_one", "e", "x")
