"""Portions of work among processes, by a stand-in for Ray: nothing is lost, and nothing is tried for ever."""

from types import SimpleNamespace

import pytest

from maskseg.core.errors import OutputError
from maskseg.inference.ray_pool import Ended, Lost, Pool, portions


class Died(Exception):
    """Of a process."""


class Fault(Exception):
    """Of a method."""


class StandIn:
    """Calls in this process; one that raises Died has ended its process."""

    exceptions = SimpleNamespace(RayError=Died, RayTaskError=Fault)

    def __init__(self):
        self.started, self.killed = 0, 0

    def remote(self, worker):
        def make(*arguments):
            self.started += 1
            process = worker(*arguments)

            class Handle:
                def __getattr__(self, name):
                    def call(*given):
                        try:
                            outcome = getattr(process, name)(*given)
                        except Exception as error:
                            outcome = error
                        return Reference(outcome)

                    return SimpleNamespace(remote=call)

            return Handle()

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=make))

    def wait(self, references, num_returns):
        return references[-num_returns:], references[:-num_returns]

    def get(self, reference):
        if isinstance(reference.outcome, Exception):
            raise reference.outcome
        return reference.outcome

    def kill(self, process):
        self.killed += 1


class Reference:
    def __init__(self, outcome):
        self.outcome = outcome


class Worker:
    """Doubles numbers; dies of some, as often as it is said."""

    def __init__(self, deadly=None, ready=None):
        self.deadly, self.answer = deadly if deadly is not None else {}, ready

    def ready(self):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def double(self, numbers):
        for number in numbers:
            if self.deadly.get(number, 0) > 0:
                self.deadly[number] -= 1
                raise Died(number)
        return [2 * number for number in numbers]


def test_each_item_has_its_outcome_and_no_more_processes_are_started_than_are_needed():
    ray = StandIn()
    pool = Pool(ray, Worker, (), 3, {})
    assert sorted(pool.run("double", portions(range(50), 3, 4))) == [(number, 2 * number) for number in range(50)]
    assert ray.started == 3
    few = StandIn()
    assert list(Pool(few, Worker, (), 64, {}).run("double", [[1], [2]])) != []
    assert few.started == 2


@pytest.mark.parametrize("times", [1, 2, 9])
def test_what_a_process_dies_of_is_done_again_and_told_where_it_ends_two(times):
    ray = StandIn()
    pool = Pool(ray, Worker, ({7: times},), 2, {})
    outcomes = dict(pool.run("double", portions(range(20), 1, 5)))
    assert len(outcomes) == 20
    assert [number for number, outcome in outcomes.items() if isinstance(outcome, Lost)] == ([7] if times > 1 else [])
    assert all(outcome == 2 * number for number, outcome in outcomes.items() if number != 7)


def test_processes_that_never_start_end_the_run():
    with pytest.raises(OutputError, match="perhaps out of memory"):
        list(Pool(StandIn(), Worker, (None, Died("no memory")), 2, {}).run("double", [[1], [2]]))


def test_one_that_cannot_do_anything_says_why_and_ends_the_run():
    with pytest.raises(OutputError, match="share the folders"):
        list(Pool(StandIn(), Worker, (None, Ended("share the folders")), 2, {}).run("double", [[1]]))


def test_a_run_that_ends_early_leaves_nothing_to_the_next_one():
    ray = StandIn()
    pool = Pool(ray, Worker, (), 2, {})
    first = pool.run("double", [[1], [2], [3], [4]])
    next(first)
    first.close()
    assert sorted(pool.run("double", [[10], [20], [30]])) == [(10, 20), (20, 40), (30, 60)]
    pool.close()
    assert ray.killed == ray.started == 2


def test_portions_are_small_enough_for_all_and_hold_everything():
    assert [list(portion) for portion in portions(range(5), 64, 4)] == [[0], [1], [2], [3], [4]]
    sizes = list(map(len, portions(range(1000), 2, 16)))
    assert max(sizes) == 16 and sum(sizes) == 1000
