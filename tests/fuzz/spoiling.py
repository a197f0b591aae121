"""How a file is spoiled: bytes changed, numbers made extreme, parts left out, doubled or moved; JSON by its values."""

import copy
import json
import os
import struct

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

# Examples a fuzzer tries in `make test`; `make fuzz MINUTES=n` gives all of them together that time.
_EXAMPLES = int(os.environ.get("MASKSEG_FUZZ_EXAMPLES", "60"))
FUZZ = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    # The same examples in each run of the tests; others each time where it goes on for longer.
    derandomize="MASKSEG_FUZZ_EXAMPLES" not in os.environ,
    suppress_health_check=list(HealthCheck),
    database=None,
)
_NUMBERS = [0, 1, 2, 3, 7, 8, 127, 128, 255, 256, 65535, 65536, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
ODD = [
    None, True, -1, 0, 1, 2**31, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), 0.5, "", "a", "=cmd",
    "\ud800", "\x1b[31m", "../../x", "a\n", [], {}, [[]], [1], [[1, 2]], {"a": 1}, ["a"], [None], "9" * 400,
]  # fmt: skip


@st.composite
def spoiled(draw, seeds):
    """The bytes of one of the seeds, with some things done to them."""
    data = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(data) - 1, 0)))
        how = draw(st.sampled_from(["byte", "number", "short", "cut", "double", "insert"]))
        if how == "byte" and data:
            data[place] = draw(st.integers(0, 255))
        elif how in ("number", "short"):
            form = draw(st.sampled_from("<>")) + ("I" if how == "number" else "H")
            size = struct.calcsize(form)
            if len(data) >= size:
                number = draw(st.one_of(st.sampled_from(_NUMBERS), st.integers(0, len(data))))
                struct.pack_into(form, data, min(place, len(data) - size), number % (1 << 8 * size))
        elif how == "cut":
            del data[place : place + draw(st.sampled_from([1, 4, 100, 1 << 20]))]
        elif how == "double":
            data[place:place] = data[place : place + draw(st.integers(1, 64))]
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
    return bytes(data)


@st.composite
def odd_json(draw, document):
    """A JSON document of which some values are what nobody expects."""
    found = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        at, key = _somewhere(draw, found)
        if at is None:
            continue
        what = draw(st.sampled_from(["odd", "gone", "twice"]))
        if what == "odd":
            at[key] = copy.deepcopy(draw(st.sampled_from(ODD)))
        elif what == "gone":
            del at[key]
        elif isinstance(at, list):
            at.append(copy.deepcopy(at[key]))
    return json.dumps(found).encode()


def _somewhere(draw, node):
    """A list or dict in a document, and a key of it."""
    at, key = None, None
    while isinstance(node, (dict, list)) and node and (at is None or draw(st.booleans()) or draw(st.booleans())):
        at = node
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = node[key]
    return at, key
