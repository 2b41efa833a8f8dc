"""Right and wrong answers to the exercises, written by hand: ``answers_0.py``, ``answers_2_1.py`` ….

    @right("0-c")
    def in_one_list(batches): ...

    @wrong("0-c", "mean of the batches' means")
    def mean_of_means(batches): ...

A wrong answer is a plausible mistake, and the check must name it: the text is a part of what the student is told. A
right answer is written otherwise than the solution. The functions of an exercise with several answers are stacked:
``right("5.1-e", segment)`` with the others given. ``# fault 48`` marks a mistake that users of other projects made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ANSWERS: list["Answer"] = []


@dataclass(frozen=True)
class Answer:
    """An answer and what the check must say of it; None: that it passed."""

    number: str
    functions: tuple[Any, ...]
    message: str | None

    @property
    def name(self) -> str:
        return self.functions[-1].__name__


def right(number: str, *first: Any) -> Callable[[Any], Any]:
    """Mark a function as a right answer; ``first`` are the answers that the check is given before it."""
    return _add(number, first, None)


def wrong(number: str, message: str, *first: Any) -> Callable[[Any], Any]:
    """Mark a function as a wrong answer, of which the check must say ``message``."""
    return _add(number, first, message)


def _add(number: str, first: tuple[Any, ...], message: str | None) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        ANSWERS.append(Answer(number, (*first, function), message))
        return function

    return add
