"""Which classes a network is to tell apart, from the records of the data sets that it learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from typing import Any

from maskseg.core.errors import InputError
from maskseg.formats.classes import NUCLEUS, UNCLASSIFIED, ClassRule

# Class number of a nucleus of which the class is not known: it counts as a nucleus, and teaches no class.
UNKNOWN = -1


def classes_of(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The classes that records tell apart, in the order of their categories.

    Sets of one class each are all of nuclei, whatever they call them. Where a set has several, plain nuclei of another
    set, and nuclei of any without a class, are nuclei of a class that is not known.

    Parameters
    ----------
    records : iterable of dict
        From `maskseg.data.dataset.dataset_dicts`; ``dataset`` is the number of their set, where there are several.

    Returns
    -------
    tuple of str
        At least one.
    """
    of_sets: dict[Any, dict[str, None]] = {}
    order: dict[Any, Sequence[str]] = {}
    for record in records:
        number = record.get("dataset", 0)
        order.setdefault(number, record.get("categories", ()))
        names = of_sets.setdefault(number, {})
        names.update((item.get("class", NUCLEUS), None) for item in record["annotations"])
    names_of_all: dict[str, None] = {}
    several = False
    for number, names in of_sets.items():
        own = [name for name in dict.fromkeys([*order[number], *names]) if name in names and name != UNCLASSIFIED]
        several |= len(own) > 1
        names_of_all.update(dict.fromkeys(own))
    alone = [{*names} - {UNCLASSIFIED} for names in of_sets.values()]
    if not several:
        return (next(iter(names_of_all), NUCLEUS) if len(names_of_all) == 1 else NUCLEUS,)
    if not any(NUCLEUS in names and len(names) > 1 for names in alone):
        names_of_all.pop(NUCLEUS, None)
    return tuple(names_of_all)


def rename_classes(records: Iterable[MutableMapping[str, Any]], rule: ClassRule, strict: bool = True) -> None:
    """Change the names of classes in records by a rule, in place.

    Raises
    ------
    InputError
        If the rule is about none of them, and that is asked for.
    """
    if not rule:
        return
    seen: set[str] = set()
    for record in records:
        for item in record["annotations"]:
            seen.add(item.get("class", NUCLEUS))
            item["class"] = rule(item.get("class", NUCLEUS))
        record["categories"] = tuple(dict.fromkeys(map(rule, record.get("categories", ()))))
    if strict:
        rule.check(seen)


def assign_category_ids(records: Iterable[Mapping[str, Any]], names: Sequence[str]) -> int:
    """Give the annotations of records their ``category_id``, the place of their class in `names`, in place.

    Of one class all are 0; a class that is not among several is `UNKNOWN`.

    Returns
    -------
    int
        How many annotations are of a class that is not known.
    """
    place = {name: number for number, name in enumerate(names)}
    unknown = 0
    for record in records:
        for item in record["annotations"]:
            number = 0 if len(names) < 2 else place.get(item.get("class", NUCLEUS), UNKNOWN)
            item["category_id"] = number
            unknown += number == UNKNOWN
    return unknown


def chosen_classes(records: Sequence[Mapping[str, Any]], names: Sequence[str]) -> tuple[str, ...]:
    """The classes to tell apart: those named, MODEL.CLASS_NAMES, or those of `classes_of` where none are.

    Raises
    ------
    InputError
        If a name comes twice, or several are named and no nucleus is of any.
    """
    if not names:
        return classes_of(records)
    there = {item.get("class", NUCLEUS) for record in records for item in record["annotations"]}
    if len(set(names)) < len(names):
        raise InputError(f"MODEL.CLASS_NAMES {', '.join(names)}: name each class once")
    if len(names) > 1 and not there & set(names):
        raise InputError(
            f"MODEL.CLASS_NAMES {', '.join(names)}: no nucleus is of these classes; there are "
            f"{', '.join(sorted(there))}"
        )
    return tuple(names)
