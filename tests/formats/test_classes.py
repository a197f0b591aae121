"""Classes by name: their numbers, their colours, how they are merged."""

import pytest

from maskseg.core.errors import InputError
from maskseg.formats.classes import Categories, ClassRule, class_name, colours


@pytest.mark.parametrize(
    ("given", "name"), [(" Tumor ", "Tumor"), (3, "3"), (3.0, "3"), ("3", "3"), (None, ""), (True, ""), ([1], "")]
)
def test_a_name_of_any_json_type_is_one_text(given, name):
    assert class_name(given) == name


@pytest.mark.parametrize(
    ("come", "names"),
    [
        ([], ["nucleus"]),
        (["", ""], ["nucleus"]),
        (["0"], ["nucleus"]),  # YOLO's only class
        (["Tumor"], ["Tumor"]),
        (["nucleus", ""], ["nucleus"]),  # predicted ones and one that was drawn
        (["", "nucleus", "mitosis"], ["nucleus", "mitosis"]),
        (["a", "", "b"], ["a", "unclassified", "b"]),
        (["1", "2"], ["1", "2"]),
    ],
)
def test_what_has_no_class_is_a_nucleus_unless_others_have_one(come, names):
    known = Categories()
    numbers = [known.number(name) for name in come]
    assert known.names == names
    assert sorted(set(numbers)) == list(range(1, len(set(numbers)) + 1))


def test_colours_differ_and_are_those_of_qupath():
    names = ["Tumor", "Stroma", "Immune cells", *"abcdefgh"]
    found = colours(names)
    assert len(set(found.values())) == len(names)
    assert found["Tumor"] == (200, 0, 0)
    # The same in another set, as long as no other name has taken it.
    assert colours(["a"])["a"] == colours(["a", "Tumor"])["a"]


def test_classes_are_named_and_merged():
    rule = ClassRule.parse("neoplastic,inflammatory", ["cell=neoplastic,stromal", "debris=dirt"])
    assert [rule(name) for name in ("1", "2", "stromal", "dirt", "3", "")] == [
        *("cell", "inflammatory", "cell", "debris", "3", "")
    ]
    assert ClassRule.parse(None, ["all"])("whatever") == "nucleus"
    assert ClassRule.parse(None, ["cell=all"])("whatever") == "cell"
    rule.check(["1", "stromal", "dirt"])


@pytest.mark.parametrize(
    ("names", "merges"),
    [("a,,b", []), ("a,a", []), (None, ["a"]), (None, ["=b"]), (None, ["a=b", "c=b"]), (None, ["a=b,,c"])],
)
def test_a_rule_that_says_nothing_clear_is_refused(names, merges):
    with pytest.raises(InputError, match=r"--(class-names|merge-classes)"):
        ClassRule.parse(names, merges)


@pytest.mark.parametrize(("names", "merges"), [("a,b", []), (None, ["cell=typo"])])
def test_a_rule_about_nothing_is_refused(names, merges):
    with pytest.raises(InputError, match="there are: x, y"):
        ClassRule.parse(names, merges).check(["x", "y"])
