"""The server's state is the replay of its log is the same edits on CropMasks, whenever the process is killed."""

import errno
import os
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from maskseg.core.errors import InputError
from maskseg.core.masks import CropMasks
from maskseg.serve import edits
from maskseg.serve.log import OperationLog
from maskseg.serve.nuclei import Nuclei, crop
from maskseg.serve.session import LOG, Session, Stale

SHAPE = (48, 64)
EVERYWHERE = (0, 0, SHAPE[1], SHAPE[0])
places = st.tuples(st.integers(-4, SHAPE[1] + 4), st.integers(-4, SHAPE[0] + 4)).map(list)
strokes = st.lists(places, min_size=1, max_size=4)


def state(session):
    """All that a person sees of a session."""
    return (
        {number: to_whole(session.nuclei[number]) for number in session.nuclei.masks()[0]},
        session.reviewed,
        session.version,
        session.nuclei.next_id,
        session.undoable,
        session.redoable,
    )


def to_whole(nucleus):
    return crop(nucleus.bitmap, nucleus.box, EVERYWHERE).tobytes(), nucleus.score, nucleus.kind, nucleus.by_hand


class Editing(RuleBasedStateMachine):
    """Random edits, with undo, redo and kills, beside the same edits on nuclei in memory."""

    def __init__(self):
        super().__init__()
        self.random = np.random.default_rng(0)

    @initialize()
    def begin(self):
        import tempfile

        self.folder = tempfile.mkdtemp()
        from pathlib import Path

        self.path = Path(self.folder)
        self.session = Session(self.path, SHAPE)
        # What was so far: nuclei by number, at each place of the undo list.
        self.history, self.place = [({}, ())], 0

    def teardown(self):
        if hasattr(self, "session"):
            self.session.close()
            shutil.rmtree(self.folder)

    def direct(self):
        """The present nuclei, made anew from the history."""
        nuclei = Nuclei(SHAPE)
        nuclei.put(self.history[self.place][0])
        nuclei.next_id = self.session.nuclei.next_id
        return nuclei

    def then(self, nuclei, reviewed=None):
        now = {number: nuclei[number] for number in nuclei.masks()[0]}
        del self.history[self.place + 1 :]
        self.history.append((now, self.history[self.place][1] if reviewed is None else reviewed))
        self.place += 1

    def chosen(self, data, most=3):
        numbers = self.session.nuclei.masks()[0]
        return data.draw(st.lists(st.sampled_from(numbers), min_size=1, max_size=most, unique=True)) if numbers else []

    def both(self, name, **given):
        nuclei = self.direct()
        try:
            after = edits.EDITS[name](nuclei, **given)
        except InputError as error:
            with pytest.raises(InputError, match=str(error)[:12]):
                self.session.edit(name, given)
            return
        change = self.session.edit(name, given)
        assert set(change.numbers) == set(after)
        if after:
            nuclei.put(after)
            self.then(nuclei)

    @rule(ring=st.lists(places, min_size=3, max_size=6))
    def add(self, ring):
        self.both("add", ring=ring)

    @rule(data=st.data())
    def delete(self, data):
        self.both("delete", ids=self.chosen(data, 2))

    @rule(data=st.data())
    def merge(self, data):
        self.both("merge", ids=self.chosen(data))

    @rule(line=st.lists(places, min_size=2, max_size=3), data=st.data())
    def split(self, line, data):
        self.both("split", line=line, ids=data.draw(st.sampled_from([[], self.chosen(data, 1)])))

    @rule(points=strokes, radius=st.floats(0.5, 9), data=st.data())
    def brush(self, points, radius, data):
        self.both("brush", points=points, radius=radius, id=next(iter(self.chosen(data, 1)), None))

    @rule(points=strokes, radius=st.floats(0.5, 9))
    def erase(self, points, radius):
        self.both("erase", points=points, radius=radius)

    @rule(data=st.data())
    def smooth(self, data):
        self.both("smooth", ids=self.chosen(data))

    @rule(data=st.data(), kind=st.integers(0, 9))
    def classify(self, data, kind):
        self.both("classify", ids=self.chosen(data), kind=kind)

    @rule(seed=st.integers(0, 99))
    def predict(self, seed):
        labels = np.zeros(SHAPE, np.int32)
        random = np.random.default_rng(seed)
        for k in range(1, 6):
            x, y = random.integers(0, 50), random.integers(0, 36)
            labels[y : y + 12, x : x + 12] = k
        found = CropMasks.from_labels(labels, None)
        found.scores[:] = np.linspace(0.5, 0.9, len(found))
        nuclei = self.direct()
        kept, added = edits.predicted(nuclei, found, self.history[self.place][1])
        self.session.predicted(found, "model")
        nuclei.put({**{number: None for number in nuclei.masks()[0] if number not in kept}, **added})
        self.then(nuclei)

    @rule(on=st.booleans())
    def review(self, on):
        self.session.review(None, on)
        self.then(self.direct(), ((EVERYWHERE,) if on else ()))

    @rule()
    def undo(self):
        if self.place:
            self.session.undo()
            self.place -= 1
        else:
            with pytest.raises(InputError):
                self.session.undo()

    @rule()
    def redo(self):
        if self.place + 1 < len(self.history):
            self.session.redo()
            self.place += 1
        else:
            with pytest.raises(InputError):
                self.session.redo()

    @rule()
    def kill_between_two_operations(self):
        before = state(self.session)
        self.session.close()
        self.session = Session(self.path, SHAPE)
        assert state(self.session) == before
        assert self.session.notice == ""

    @rule(data=st.data(), points=strokes)
    def kill_within_an_operation(self, data, points):
        """The stroke in hand is lost, or was already on the disk: nothing between, and nothing before it."""
        before = state(self.session)
        size = (self.path / LOG).stat().st_size
        try:
            change = self.session.edit("brush", {"points": points, "radius": 3.0, "id": None})
        except InputError:
            return
        after = state(self.session)
        self.session.close()
        written = (self.path / LOG).stat().st_size
        # The length of a record is another each time, as its time is: of 80 places the last 15 are single bytes.
        place = data.draw(st.integers(0, 80))
        left = written - 80 + place if place > 64 else size + (written - size) * place // 65
        os.truncate(self.path / LOG, left)
        self.session = Session(self.path, SHAPE)
        assert state(self.session) == (after if left == written else before)
        assert bool(self.session.notice) == (size < left < written)
        if left == written and change.numbers:
            nuclei = self.direct()
            nuclei.put({number: self.session.nuclei[number] for number in change.numbers})
            self.then(nuclei)

    @invariant()
    def the_same_as_direct(self):
        if not hasattr(self, "session"):
            return
        now, reviewed = self.history[self.place]
        assert {number: to_whole(nucleus) for number, nucleus in now.items()} == state(self.session)[0]
        assert reviewed == self.session.reviewed
        total = sum(nucleus.bitmap.astype(int).sum() for nucleus in now.values())
        assert total == self.session.nuclei.taken(EVERYWHERE).sum(), "two nuclei share a pixel"
        assert all(nucleus.bitmap.any() for nucleus in now.values())


TestEditing = Editing.TestCase
TestEditing.settings = settings(
    max_examples=6, stateful_step_count=100, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
def test_five_hundred_edits_in_one_session():
    """One long session, the same as the many short ones above."""
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Editing,
        settings=settings(
            max_examples=1,
            stateful_step_count=500,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )


def some(folder):
    session = Session(folder, SHAPE)
    for k in range(4):
        session.edit("add", {"ring": [[k * 12, 2], [k * 12 + 9, 2], [k * 12 + 9, 20], [k * 12, 20]]})
    return session


@pytest.mark.slow
def test_a_log_cut_at_any_byte_keeps_all_whole_operations(tmp_path):
    session = some(tmp_path / "a")
    session.close()
    data = (tmp_path / "a" / LOG).read_bytes()
    for size in range(0, len(data) + 1, 7):
        folder = tmp_path / f"cut{size}"
        folder.mkdir()
        (folder / LOG).write_bytes(data[:size])
        again = Session(folder, SHAPE)
        assert len(again.nuclei) == max(0, data[:size].count(b"\n") - 1)
        again.edit("add", {"ring": [[0, 30], [9, 30], [9, 40], [0, 40]]})
        again.close()
        assert len(Session(folder, SHAPE).nuclei) == len(again.nuclei)


def test_a_log_damaged_in_the_middle_is_set_aside_whole(tmp_path):
    some(tmp_path).close()
    data = (tmp_path / LOG).read_bytes()
    lines = data.split(b"\n")
    lines[2] = lines[2].replace(b"add", b"sub")
    (tmp_path / LOG).write_bytes(b"\n".join(lines))
    session = Session(tmp_path, SHAPE)
    assert len(session.nuclei) == 1
    assert "damaged after 2 operations" in session.notice
    assert (tmp_path / f"{LOG}.damaged").read_bytes() == b"\n".join(lines)


def test_a_full_disk_changes_nothing_and_is_said(tmp_path, monkeypatch):
    session = some(tmp_path)
    before, data = state(session), (tmp_path / LOG).read_bytes()

    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("maskseg.serve.log.os.fsync", full)
    for _ in range(2):
        with pytest.raises(InputError, match="No space left"):
            session.edit("delete", {"ids": [1]})
    assert state(session) == before
    assert (tmp_path / LOG).read_bytes() == data
    monkeypatch.undo()
    session.edit("delete", {"ids": [1]})
    session.close()
    assert Session(tmp_path, SHAPE).nuclei.masks()[0] == [2, 3, 4]


def test_a_nucleus_that_another_window_changed_is_not_changed_unseen(tmp_path):
    session = some(tmp_path)
    seen = session.version
    session.edit("delete", {"ids": [1]}, seen)
    session.edit("classify", {"ids": [2], "kind": 3}, session.version)
    with pytest.raises(Stale):
        session.edit("merge", {"ids": [2, 3]}, seen)
    with pytest.raises(Stale):
        session.edit("delete", {"ids": [1]}, seen)
    session.edit("merge", {"ids": [3, 4]}, seen)
    with pytest.raises(Stale):
        session.edit("delete", {"ids": [2]}, 10_000)


def test_the_corrections_of_another_image_are_refused(tmp_path):
    some(tmp_path).close()
    with pytest.raises(InputError, match="64 x 48"):
        Session(tmp_path, (64, 48))


def test_regions_are_reviewed_and_not(tmp_path):
    session = Session(tmp_path, SHAPE)
    session.review((0, 0, 20, 20), True)
    session.review((30, 0, 50, 20), True)
    session.review((2, 2, 19, 19), True)
    assert session.reviewed == ((0, 0, 20, 20), (30, 0, 50, 20))
    session.review((0, 0, 25, 25), True)
    assert session.reviewed == ((30, 0, 50, 20), (0, 0, 25, 25))
    session.review((0, 0, 30, 30), False)
    assert session.reviewed == ((30, 0, 50, 20),)
    session.review(None, True)
    assert session.reviewed == (EVERYWHERE,)
    session.undo()
    assert session.reviewed == ((30, 0, 50, 20),)
    with pytest.raises(InputError, match="16 pixels"):
        session.review((0, 0, 4, 40), True)


def test_the_log_appends_across_openings(tmp_path):
    for k in range(3):
        log = OperationLog(tmp_path / "log")
        assert [one["k"] for one in log.operations] == list(range(k))
        log.append({"k": k})
        log.close()


def test_a_prediction_whose_file_is_gone_takes_nothing_else_with_it(tmp_path):
    session = some(tmp_path)
    labels = np.zeros(SHAPE, np.int32)
    labels[30:40, 10:20] = 1
    session.predicted(CropMasks.from_labels(labels), "model")
    session.edit("classify", {"ids": [1], "kind": 2})
    session.close()
    (file,) = tmp_path.glob("predicted-*.npz")
    file.write_bytes(b"damaged")
    again = Session(tmp_path, SHAPE)
    assert again.nuclei.masks()[0] == [1, 2, 3, 4] and again.nuclei[1].kind == 2
    assert "predict them again" in again.notice


def test_the_image_that_nobody_has_corrected_and_the_model_is_unsure_of_comes_first(tmp_path):
    session = Session(tmp_path, SHAPE)
    labels = np.zeros(SHAPE, np.int32)
    labels[:10, :10], labels[:10, 20:30] = 1, 2
    found = CropMasks.from_labels(labels, [0.8, 1.0])
    session.predicted(found, "model")
    assert session.doubt() == pytest.approx(0.1)
    session.edit("delete", {"ids": [1]})
    session.edit("classify", {"ids": [2], "kind": 1})
    assert session.doubt() is None
