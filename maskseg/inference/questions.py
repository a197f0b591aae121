"""Work that asks questions as it goes: generators that yield a question and are sent its answer.

So the work on an image says what it wants of the network without calling it, and whoever runs it may answer at once, or
collect the questions of several images and answer them as one batch (`maskseg.inference.batching`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

Question = TypeVar("Question")
Answer = TypeVar("Answer")
Result = TypeVar("Result")
OtherQuestion = TypeVar("OtherQuestion")
OtherAnswer = TypeVar("OtherAnswer")


def answered(steps: Generator[Question, Answer, Result], answer: Callable[[Question], Answer]) -> Result:
    """The result of work each of whose questions is answered at once.

    Examples
    --------
    >>> def total():
    ...     return (yield 2) + (yield 3)
    >>> answered(total(), lambda number: 10 * number)
    50
    """
    try:
        question = next(steps)
    except StopIteration as end:
        return end.value
    while True:
        reply = answer(question)
        try:
            question = steps.send(reply)
        except StopIteration as end:
            return end.value


def passed_on(
    steps: Generator[Question, Answer, Result],
    ask: Callable[[Question], Generator[OtherQuestion, OtherAnswer, Answer]],
) -> Generator[OtherQuestion, OtherAnswer, Result]:
    """Work each of whose questions is answered by work that has questions of another kind.

    Examples
    --------
    >>> def total():
    ...     return (yield 2) + (yield 3)
    >>> def twice(number):
    ...     return 2 * (yield f"what is {number}?")
    >>> answered(passed_on(total(), twice), lambda text: int(text[8:-1]))
    10
    """
    try:
        question = next(steps)
    except StopIteration as end:
        return end.value
    while True:
        reply = yield from ask(question)
        try:
            question = steps.send(reply)
        except StopIteration as end:
            return end.value
