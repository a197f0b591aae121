"""Pickles of arrays are data: whatever the opcodes say, no pointer is followed and nothing is called."""

import contextlib
import io
import pickle
import resource
import struct
import time
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from maskseg.core.array_pickle import load_array_pickle
from tests.fixtures.pickles import HUGE, KEYS, MODULUS, nested, text, whole

CORE = np.zeros(1).__reduce__()[0].__module__
PLAIN = st.sampled_from(["?", *(f"{order}{code}" for order in "<>" for code in ("i2", "u4", "i8", "f2", "f4", "f8"))])


def load(data: bytes):
    return load_array_pickle(io.BytesIO(data))


class Call:
    """Pickled, it is a call of any function with any arguments, and a state for what that gives."""

    def __init__(self, function, *arguments, state=None):
        self.reduced = (function, arguments, state)

    def __reduce__(self):
        return self.reduced


RECONSTRUCT, SCALAR = np.zeros(1).__reduce__()[0], np.float32(0).__reduce__()[0]
FROMBUFFER = np.zeros(1).__reduce_ex__(5)[0]
POINTER = struct.pack("<q", 0x41414141)
STATE = (3, "<", None, None, None, -1, -1, 0)
FLOATS = np.dtype("f4")


def array(*state, start=(0,), name=b"b"):
    return Call(RECONSTRUCT, np.ndarray, start, name, state=state or None)


REFUSED = {
    # What killed the interpreter: bytes taken for pointers to objects.
    "ndarray with a buffer": lambda: Call(np.ndarray, (1,), np.dtype("O"), POINTER),
    "ndarray of numbers with a buffer": lambda: Call(np.ndarray, (1,), FLOATS, b"1234"),
    "ndarray with strides": lambda: Call(np.ndarray, (9, 9), FLOATS, b"1234", 0, (-4, -4)),
    "objects": lambda: np.array([None, {}], dtype=object),
    "objects by their bytes": lambda: array(1, (1,), np.dtype("O"), False, POINTER),
    "scalar object": lambda: Call(SCALAR, np.dtype("O"), POINTER),
    "buffer of objects": lambda: Call(FROMBUFFER, POINTER, np.dtype("O"), (1,), "C"),
    "structure": lambda: np.zeros(2, [("a", "f4"), ("b", "O")]),
    "plain structure": lambda: np.zeros(2, [("a", "f4")]),
    "type by a list": lambda: Call(np.dtype, [("a", "O")]),
    "type by a text with commas": lambda: Call(np.dtype, "f4,O"),
    "type with a shape": lambda: Call(np.dtype, "(2,)f4"),
    "type made an object by its state": lambda: Call(
        np.dtype, "f4", state=(3, "|", ("f4", (1,)), None, None, 8, 8, 63)
    ),
    "type with fields by its state": lambda: Call(
        np.dtype, "f8", state=(3, "<", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 8, 27)
    ),
    "type of another size": lambda: Call(np.dtype, "f4", state=(3, "<", None, None, None, 1 << 20, 1, 0)),
    "type as a value": lambda: FLOATS,
    "function as a value": lambda: RECONSTRUCT,
    "text": lambda: np.array(["a", "b"]),
    "dates": lambda: np.array(["2018-01-01"], "M8[D]"),
    "complex": lambda: np.ones(2, np.complex64),
    "huge shape": lambda: array(1, (1 << 40,), FLOATS, False, b"1234"),
    "shape whose product overflows": lambda: array(1, (1 << 32, 1 << 32), FLOATS, False, b""),
    "negative shape": lambda: array(1, (-1,), FLOATS, False, b"1234"),
    "shape of text": lambda: array(1, ("1",), FLOATS, False, b"1234"),
    "shape of truth": lambda: array(1, (True,), FLOATS, False, b"1234"),
    "many axes": lambda: array(1, (1,) * 40, FLOATS, False, b"1234"),
    "list of values": lambda: array(1, (1,), FLOATS, False, [1.0]),
    "begun at another shape": lambda: array(1, (1,), FLOATS, False, b"1234", start=(1 << 40,)),
    "no values": lambda: array(),
    "values twice": lambda: Call(RECONSTRUCT, np.ndarray, (0,), b"b", state=(1, (1,), FLOATS, False, b"12345678")),
    "buffer too small": lambda: Call(FROMBUFFER, b"1234", FLOATS, (2,), "C"),
    "buffer in an unknown order": lambda: Call(FROMBUFFER, b"1234", FLOATS, (1,), "A"),
    "dict with an array as a key": lambda: {(1, 2): np.ones(1)},
    "set": lambda: {1, 2},
    "another container": lambda: Call(OrderedDict, state={"a": 1}),
    "a call of the plainest kind": lambda: Call(list, (1, 2)),
}


@pytest.mark.slow
@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_plain_array_is_refused(kind, protocol):
    with pytest.raises(pickle.UnpicklingError):
        load(pickle.dumps({"a": REFUSED[kind]()}, protocol))


@given(data=st.data(), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), columns=st.booleans())
@settings(max_examples=60, deadline=None)
def test_plain_arrays_of_every_type_shape_and_order_are_read_as_they_are(data, protocol, columns):
    array = data.draw(arrays_of.arrays(data.draw(PLAIN), arrays_of.array_shapes(min_dims=0, min_side=0, max_side=4)))
    array = np.asfortranarray(array) if columns else array
    read = load(pickle.dumps({"model": {"a": array}, "b": array}, protocol))
    for found in (read["model"]["a"], read["b"]):
        assert found.dtype == array.dtype.newbyteorder("=") and found.shape == array.shape
        assert np.array_equal(found, array, equal_nan=array.dtype.kind == "f")
        assert found.flags.writeable or found.ndim == 0


def test_arrays_that_share_their_bytes_cannot_claim_more_than_the_file():
    data = bytes(10_000)
    many = [Call(FROMBUFFER, data, FLOATS, (2500,), "C") for _ in range(1000)]
    with pytest.raises(pickle.UnpicklingError, match="larger than the file"):
        load(pickle.dumps(many, 5))


@pytest.mark.parametrize("end", [b"K\x01s.", b"."], ids=["as a key", "as a value"])
def test_a_bomb_of_tuples_does_not_go_off(end):
    # Each tuple holds the one before twice. A plain unpickler would hash it 2 ** 60 times for a key.
    as_key = len(end) > 1
    doubled = b")\x94" + b"".join(b"h%c\x86\x94" % n for n in range(60))
    data = b"\x80\x04" + (b"}" if as_key else b"") + doubled + end
    with pytest.raises(pickle.UnpicklingError, match="no names" if as_key else "containers"):
        load(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"N",
        b"(.",
        b"K\x01K\x02.",
        b"]\x94h\x00a.",
        b"0.",
        b"h\x07.",
        b"\x8d\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"B\xff\xff\xff\x7fabc.",
        b"Pname.",
        b"K\x01Q.",
        b"\x82\x01.",
        b"(i__main__\nA\n.",
        b"\x80\x05\x97.",
        b"I" + b"9" * 100_000 + b"\n.",
        b"cnumpy\nndarray\n)\x81.",
        b"]" * 50_000 + b"a" * 49_999 + b".",
    ],
)
def test_a_broken_stream_of_opcodes_is_refused(data):
    with pytest.raises(pickle.UnpicklingError):
        load(data)


@pytest.mark.slow
@given(at=st.integers(0, 10_000), value=st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_a_changed_byte_gives_arrays_or_one_error(at, value):
    data = bytearray(pickle.dumps({"model": {"a": np.ones((3, 4), "f4"), "b": np.float32(2)}, "__author__": "x"}, 2))
    data[at % len(data)] = value
    with contextlib.suppress(pickle.UnpicklingError):
        load(bytes(data))


def test_a_dict_that_numpy_saved_comes_back_where_that_is_asked_for():
    """As Cellpose saves ``_seg.npy``: an array without axes, of one dict."""
    saved = {"masks": np.arange(6, dtype=np.uint16).reshape(2, 3), "flows": [np.ones(2), None], "name": "a", "n": 1.5}
    data = pickle.dumps(np.array(saved, dtype=object), protocol=3)
    ((found),) = load_array_pickle(io.BytesIO(data), objects=True)
    np.testing.assert_array_equal(found["masks"], saved["masks"])
    assert (found["flows"][1], found["name"], found["n"]) == (None, "a", 1.5)
    with pytest.raises(pickle.UnpicklingError):
        load(data)


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
@pytest.mark.parametrize("name", ["PosixPath", "WindowsPath"])
def test_a_path_is_read_as_text_where_there_may_be_objects(module, name):
    """As Cellpose saves what it was given: of a system and a Python that need not be these."""
    data = f"c{module}\n{name}\n(Vhome\nVa.png\ntR.".encode()
    assert load_array_pickle(io.BytesIO(data), objects=True) == "home/a.png"
    for bad in (data, data.replace(b"Va.png", b"I7"), data.replace(name.encode(), b"Path")):
        with pytest.raises(pickle.UnpicklingError):
            load_array_pickle(io.BytesIO(bad), objects=bad is not data)


@pytest.mark.parametrize("name", ["objects by their bytes", "scalar object", "buffer of objects", "structure"])
def test_no_pointer_is_taken_for_a_value_where_there_may_be_objects(name):
    with pytest.raises(pickle.UnpicklingError):
        load_array_pickle(io.BytesIO(pickle.dumps(REFUSED[name]())), objects=True)


BEGUN = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85U\x01btR"
ARRAY = BEGUN + b"(K\x01%scnumpy\ndtype\nU\x02f4\x85R\x89U\0tb."
# What would take minutes, or gigabytes, of a pickle of less than a megabyte.
BOMBS = {
    "a tuple as a name": nested(28) + b"h\x1c\x8c\x01a\x93.",
    "a tuple as the name of a module": nested(28) + b"\x8c\x01ah\x1c\x93.",
    "a number as a name": b"\x80\x02\x8b" + struct.pack("<i", len(HUGE)) + HUGE + b"\x8c\x01a\x93.",
    "a tuple as a shape": nested(28) + ARRAY % b"h\x1c",
    "a tuple of many axes": nested(28) + ARRAY % (b"(" + b"h\x1c" * 9 + b"t"),
    **KEYS,
    "numbers of one hash as pairs": b"\x80\x02ccollections\nOrderedDict\n]("
    + b"".join(whole(n * MODULUS) + b"N\x86" for n in range(1, 20_000))
    + b"e\x85R.",
    "a text again and again": b"\x80\x02c_codecs\nencode\nq\0"
    + text("a" * 400_000)
    + text("latin1")
    + b"\x86q\x01]("
    + b"h\0h\x01R" * 20_000
    + b"e.",
    "a type again and again": b"\x80\x02cnumpy\ndtype\nq\0"
    + text("a" * 400_000)
    + b"\x85q\x01]("
    + b"h\0h\x01R" * 20_000
    + b"e.",
    "pairs again and again": b"\x80\x02ccollections\nOrderedDict\nq\0]("
    + b"".join(text(f"{n}") + b"N\x86" for n in range(20_000))
    + b"e\x85q\x01]("
    + b"h\0h\x01R" * 2000
    + b"e.",
    "containers": b"(" + b"}" * 900_000 + b"t.",
    "a path again and again": b"\x80\x02cpathlib\nPosixPath\nq\0"
    + text("a" * 400_000)
    + b"\x85q\x01]("
    + b"h\0h\x01R" * 20_000
    + b"e.",
    "a path of one part again and again": b"\x80\x02cpathlib\nPosixPath\nq\0"
    + text("a" * 4000)
    + b"q\x02("
    + b"h\x02" * 100_000
    + b"tq\x01]("
    + b"h\0h\x01R" * 20_000
    + b"e.",
}


@pytest.mark.parametrize("objects", [False, True])
@pytest.mark.parametrize("bomb", BOMBS)
def test_no_bomb_goes_off(bomb, objects):
    assert len(BOMBS[bomb]) < 1 << 20
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(pickle.UnpicklingError) as caught:
        load_array_pickle(io.BytesIO(BOMBS[bomb]), objects=objects)
    assert time.process_time() - began < 10 and len(str(caught.value)) < 300
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10


@pytest.mark.parametrize("keys", [range(300), range(-3, 3), [1 << 59], ["a" * 999], ["", "ä"]])
def test_keys_of_every_day_are_read(keys):
    values = dict.fromkeys(keys, 1.5)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert load(pickle.dumps([values, OrderedDict(values)], protocol)) == [values, values]
