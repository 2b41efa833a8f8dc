"""Run the check of an exercise on an answer, and say in one sentence what is wrong with it.

A check is a function of the answer, registered by :func:`exercise` in the file of its notebook. It calls the answer on
small inputs, in an order that isolates the fault, and tells by :func:`expect` which mechanism is likely wrong, never
what is right. What else can happen to an answer is dealt with here: it is not written yet, it raises an error, it
returns something of another kind or shape, or it never ends.
"""

import ctypes
import hashlib
import importlib
import linecache
import re
import threading
import traceback
from collections.abc import Callable
from typing import Any

import numpy as np

SECONDS = 20.0  # after which an answer is stopped; a right one needs less than two, on a slow computer perhaps five
CHECKS: dict[str, Callable[..., None]] = {}

Check = Callable[..., None]


class Wrong(AssertionError):
    """An answer that is not right yet; its text says what is likely wrong."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows: the sentence alone, without a traceback through this file."""
        return [str(self)]


class TimeUp(BaseException):
    """Thrown into an answer that runs too long. Not an ``Exception``, so that ``except Exception`` lets it through."""


def exercise(number: str) -> Callable[[Check], Check]:
    """Register a function as the check of an exercise, such as "4.1-b".

    Raises:
        ValueError: if there is one already, or the number is not of this form.
    """
    if not re.fullmatch(r"\d+(\.\d+)?-[a-z]", number) or number in CHECKS:
        raise ValueError(f"{number!r} should be of the form '4.1-b' and have one check only")

    def register(function: Check) -> Check:
        CHECKS[number] = function
        return function

    return register


def find(number: str) -> Check:
    """The check of an exercise.

    Raises:
        ValueError: if there is no such exercise.
    """
    notebook = number.split("-")[0].replace(".", "_")
    try:
        importlib.import_module(f"course_lib.coursework.notebook_{notebook}")
        return CHECKS[number]
    except (ModuleNotFoundError, KeyError):
        raise ValueError(
            f"there is no exercise {number!r}; its number stands in its heading, such as '4.1-b'"
        ) from None


# ------------------------------------------------------------------------------ what the notebooks' checks are made of


def expect(condition: object, message: str) -> None:
    """Go on if the condition holds.

    Raises:
        Wrong: with the message, if it does not.
    """
    if not bool(condition):
        raise Wrong(message)


def array(value: Any, shape: tuple[int, ...] | None = None, what: str = "the result") -> np.ndarray:
    """What an answer returned (number, list, array or tensor) as an array of float64.

    Raises:
        Wrong: if it is not made of numbers, or has another shape than the one given.
    """
    expect(value is not None, f"{what} is None: does your function return it?")
    try:
        if hasattr(value, "detach"):  # a tensor; without PyTorch this module is imported in no time
            value = value.detach().cpu().double().numpy()
        numbers = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise Wrong(f"{what} should be made of numbers, but is {_short(value)}") from None
    expect(shape is None or numbers.shape == shape, f"{what} should have the shape {shape}, but has {numbers.shape}")
    return numbers


def same(found: Any, expected: Any, tolerance: float = 1e-9, what: str = "the result") -> bool:
    """Whether an answer's numbers are the expected ones, to a tolerance relative to the largest of them (or 1).

    Raises:
        Wrong: if they are not numbers, or of another shape.
    """
    right = array(expected)
    numbers = array(found, right.shape, what)
    scale = max(1.0, float(np.abs(right[np.isfinite(right)]).max(initial=0.0)))
    return bool(np.allclose(numbers, right, rtol=0, atol=tolerance * scale, equal_nan=True))


def is_text(found: Any, fingerprint: str, key: str) -> bool:
    """Whether an answer in words is the right one, of which students get only a fingerprint.

    Args:
        found: the text; case and the space around it do not count.
        fingerprint: the first 12 digits of SHA-256 of "key text", in lower case.
        key: the exercise's number and the question's.
    """
    expect(isinstance(found, str), f"a text is wanted, not {_short(found)}")
    return hashlib.sha256(f"{key} {found.strip().casefold()}".encode()).hexdigest()[:12] == fingerprint


def _short(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '…'}"


# -------------------------------------------------------------------------------------------------------- running one


def check(number: str, *answers: Any, seconds: float = SECONDS) -> None:
    """Test the answer to an exercise, and print that it passed.

    Args:
        number: of the exercise, as in its heading: "4.1-b".
        answers: what the exercise asks for, mostly one function.
        seconds: after which the answer is stopped.

    Raises:
        Wrong: if the answer is not right yet. Its text says which mechanism is likely wrong.
        ValueError: if there is no such exercise.
    """
    test = find(number)
    with np.errstate(all="ignore"):  # an overflow is told by the check's own sentence
        reason = _limited(lambda: test(*answers), seconds)
    if reason is not None:
        raise Wrong(f'✗ {number}: {reason}\n  Stuck? hint("{number}") shows the next hint.')
    print(f"{number} passed")


def _limited(test: Callable[[], None], seconds: float) -> str | None:
    """Run a test and return what is wrong, or None; stop it after some seconds, on every system and in any thread."""
    thread, lock, running = ctypes.c_ulong(threading.get_ident()), threading.Lock(), True

    def stop() -> None:
        with lock:
            if running:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TimeUp))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    try:
        timer.start()
        try:
            return _reason(test)
        finally:
            with lock:
                running = False
            timer.cancel()
    except TimeUp:
        return f"your code was still running after {seconds:g} seconds and was stopped: does each loop come to an end?"


def _reason(test: Callable[[], None]) -> str | None:
    try:
        test()
    except Wrong as wrong:
        return str(wrong)
    except NotImplementedError:
        return "not written yet: replace the line «raise NotImplementedError» by your answer"
    except (Exception, SystemExit) as error:
        return f"your code stopped with {type(error).__name__}: {error}{_place(error)}"
    return None


def _place(error: BaseException) -> str:
    """The line of the student's own code that raised an error: the last one that belongs to no package."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if "site-packages" not in frame.filename and "course_lib" not in frame.filename:
            line = linecache.getline(frame.filename, frame.lineno or 0).strip()
            return f"\n  in {frame.name}, line {frame.lineno}: {line}" if line else ""
    return ""
