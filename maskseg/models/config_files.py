"""Config files as data: YAML of this machine, of bounded size and depth, with nothing that is fetched or made.

Detectron2's own loader opens ``_BASE_`` by its path manager, which downloads what has an address, and tries again
without any limits what the safe loader refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from maskseg.core.errors import InputError

BASE = "_BASE_"
# Of one file: characters, values (those of its bases are among them), sections in sections. Detectron2's whole config
# has 16 KB, 400 values and 4.
_LARGEST, _MOST, _DEEPEST = 512 << 10, 20_000, 32
# Characters of a number, and of a text: yacs takes each text for Python, in which a key can be a number once more.
_LONGEST_NUMBER, _LONGEST_TEXT = 100, 10_000
_TEXT = "tag:yaml.org,2002:str"
# Files that one config is made of, and bases of bases.
_FILES, _BASES = 16, 8


class _BoundedLoader(yaml.SafeLoader):
    """YAML's safe loader, for which an alias counts as all that it stands for."""

    depth = 0
    # Those before, of the same config, are among them.
    values = 0

    def get_single_node(self) -> Node | None:
        """The tree of the text, once it is known how much there is of it.

        Raises
        ------
        ConstructorError
            If it is too deep or too large.
        """
        node = super().get_single_node()
        if node is not None:
            _count(node, {})
        return node

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        """A node and all in it."""
        self.depth += 1
        self.values += 1
        # Counted here already, for to make them takes longer than to read what comes of them.
        if self.values > _MOST:
            raise ConstructorError(None, None, f"over {_MOST} values", self.peek_event().start_mark)
        if self.depth > _DEEPEST:
            raise ConstructorError(None, None, f"over {_DEEPEST} sections in sections", self.peek_event().start_mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Keys, which are text, and their values.

        Raises
        ------
        ConstructorError
            If a key is anything else: numbers can be chosen such that a dict of them takes for ever.
        """
        if isinstance(node, MappingNode):
            self.flatten_mapping(node)  # with the keys that are merged into it
            for key, _ in node.value:
                if key.tag != _TEXT:
                    raise ConstructorError(None, None, "a key that is no text; put it in quotes", key.start_mark)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: ScalarNode | MappingNode) -> Any:
        """A text, as long as one of a config can be.

        Raises
        ------
        ConstructorError
            If it is longer.
        """
        if isinstance(node, ScalarNode) and len(node.value) > _LONGEST_TEXT:
            raise ConstructorError(None, None, f"a text of over {_LONGEST_TEXT} characters", node.start_mark)
        return super().construct_scalar(node)


def _number(loader: _BoundedLoader, node: ScalarNode) -> Any:
    """A number of the base 10, 2, 8 or 16: those of the base 60, such as 1:30, are not meant, and grow without end."""
    if len(node.value) > _LONGEST_NUMBER or ":" in node.value:
        raise ConstructorError(None, None, f"{node.value[:20]} is no number; put a text in quotes", node.start_mark)
    if node.tag.endswith("int"):
        return loader.construct_yaml_int(node)
    return loader.construct_yaml_float(node)


for _kind in ("int", "float"):
    _BoundedLoader.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)


def config_path(name: str | Path) -> Path:
    """Path of a config file, given by path or by the name of one in ``configs/``.

    Raises
    ------
    InputError
        If there is neither.
    """
    path = Path(name)
    if path.is_file():
        return path
    package = Path(__file__).resolve().parent.parent
    # Only a bare name or configs/NAME: where another path is mistaken, a file of the same name here is not meant.
    folders = (package.parent / "configs", package / "configs") if str(path.parent) in (".", "configs") else ()
    for folder in folders:
        for candidate in (folder / path.name, folder / f"{path.name}.yaml"):
            if candidate.is_file():
                return candidate
    raise InputError(f"{name}: no such config file; give a path or a name from configs/, such as nuclei_R_18_FPN")


def _count(node: Node, known: dict[int, int]) -> int:
    """Values in a node, those of an alias each time anew."""
    if id(node) in known:
        return known[id(node)]
    known[id(node)] = _MOST + 1  # a node in itself has no end
    count = 1
    if isinstance(node, MappingNode):
        count += sum(_count(part, known) for pair in node.value for part in pair)
    elif isinstance(node, SequenceNode):
        count += sum(_count(part, known) for part in node.value)
    if count > _MOST:
        raise ConstructorError(None, None, f"over {_MOST} values, aliases counted as what they stand for", None)
    known[id(node)] = count
    return count


def parse_yaml(text: str) -> Any:
    """The values of a YAML text of bounded size.

    Raises
    ------
    YAMLError, ValueError
        If it is not YAML, asks for objects, or is too large or too deep.
    """
    return _parsed(text, 0)[0]


def _parsed(text: str, before: int) -> tuple[Any, int]:
    """What a text holds, and how many values have been made then, with those before."""
    if len(text) > _LARGEST:
        raise ValueError(f"over {_LARGEST >> 10} KB")
    loader = _BoundedLoader(text)
    loader.values = before
    try:
        return loader.get_single_data(), loader.values
    finally:
        loader.dispose()


def load_yaml(path: Path) -> dict[str, Any]:
    """The keys of a config file, over those of the files that its ``_BASE_`` names.

    Parameters
    ----------
    path : Path
        A ``_BASE_`` in it is the path of a ``.yaml`` file on this machine, from its folder if relative, or a list of
        such, of which later ones go over earlier ones.

    Raises
    ------
    OSError, YAMLError, ValueError
        If one of the files cannot be read or is too large, is named by an address, or is its own base.
    TypeError
        If there are no keys in it.
    """
    keys = _load(path, (), [0])
    if not isinstance(keys, dict):
        raise TypeError(f"{path.name} holds no keys")
    return keys


def _load(path: Path, above: tuple[Path, ...], read: list[int]) -> Any:
    """The keys of a file over those of its bases; `read`: values after each file that was read, of which 0 are none."""
    where = path.resolve()
    if where in above:
        raise ValueError(f"{path.name} is its own {BASE}")
    if len(above) >= _BASES or len(read) > _FILES:
        raise ValueError(f"over {_BASES} files that are each the {BASE} of another, or {_FILES} in all")
    keys, values = _parsed(_text(path), read[-1])
    read.append(values)
    if not isinstance(keys, dict) or BASE not in keys:
        return keys
    bases = keys.pop(BASE)
    merged: dict[str, Any] = {}
    for base in bases if isinstance(bases, list) else [bases]:
        below = _load(_base_path(path, base), (*above, where), read)
        if not isinstance(below, dict):
            raise ValueError(f"{base} holds no keys with values")
        _merge(below, merged)
    _merge(keys, merged)
    return merged


def _text(path: Path) -> str:
    # A pipe or a device could be read without end.
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{path.name} has over {_LARGEST >> 10} KB")
    return content.decode()


def _base_path(path: Path, base: Any) -> Path:
    if not isinstance(base, str) or not base.lower().endswith((".yaml", ".yml")) or len(base) > 4096:
        raise ValueError(f"{BASE} is {str(base)[:80]!r}; name a .yaml file")
    # Also what other systems take for a place in a network.
    if "://" in base or base.startswith(("//", "\\\\")):
        raise ValueError(f"{BASE} is {base[:80]!r}, an address; name a .yaml file on this machine")
    return path.parent / Path(base).expanduser()


def _merge(upper: dict[str, Any], lower: dict[str, Any]) -> None:
    """Lay keys over others, section by section."""
    for key, value in upper.items():
        if isinstance(value, dict) and key in lower:
            if not isinstance(lower[key], dict):
                raise ValueError(f"{str(key)[:80]} is a section, and a value in its {BASE}")
            _merge(value, lower[key])
        else:
            lower[key] = value


def with_decimals(keys: Any, known: Any) -> Any:
    """The keys of a file, whole numbers as decimal ones where a config has a decimal one, since yacs refuses them."""
    if isinstance(keys, dict) and isinstance(known, dict):
        return {key: with_decimals(value, known.get(key)) for key, value in keys.items()}
    return float(keys) if isinstance(known, float) and type(keys) is int and abs(keys) < 1 << 53 else keys
