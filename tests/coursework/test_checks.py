"""Every check lets right answers pass and names the mistake of wrong ones; the run ends with a table of all of them."""

import importlib
import math
import pkgutil
import re
import time

import numpy as np
import pytest
import torch

import tests.coursework as here
from course_lib.coursework import check, engine, hint, notebooks, progress
from tests.coursework.answers import ANSWERS
from tests.notebook_tools import NOTEBOOKS

for module in pkgutil.iter_modules(here.__path__):
    if module.name.startswith("answers_"):
        importlib.import_module(f"tests.coursework.{module.name}")

BOOKS = [notebooks.read(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))]
EXERCISES = {exercise.number: exercise for book in BOOKS for exercise in notebooks.exercises(book)}


TRAINING = {"5.2-f"}  # where the answer itself trains a model


def told(number, *functions, **options):
    """What the student is told of an answer, or None if it passed."""
    try:
        check(number, *functions, **options)
    except engine.Wrong as wrong:
        return str(wrong)
    return None


def hidden_namespace(exercise, functions):
    """What the hidden tests of an exercise may use: three packages and the student's functions, by name."""
    return {"np": np, "torch": torch, "math": math, **dict(zip(exercise.answer_names, functions, strict=True))}


def passes_hidden(exercise, functions):
    """Whether an answer passes the hidden tests, which must not need anything else of the notebook."""
    try:
        with np.errstate(all="ignore"):
            exec(exercise.hidden_tests, hidden_namespace(exercise, functions))
    except NameError as error:
        raise AssertionError(f"{exercise.number}: hidden tests stand alone, but {error}") from error
    except Exception:
        return False
    return True


@pytest.mark.parametrize("number", EXERCISES)
def test_the_check_passes_right_answers_and_names_the_mistake_of_wrong_ones(number, record_property):
    answers = [answer for answer in ANSWERS if answer.number == number]
    rights = [answer for answer in answers if answer.message is None]
    wrongs = [answer for answer in answers if answer.message is not None]
    assert len(rights) >= 2 and len(wrongs) >= 5, f"{len(rights)} right answers and {len(wrongs)} wrong ones"
    assert len({answer.name for answer in answers}) == len(answers), "two answers of one name"
    for answer in rights:
        started = time.process_time()
        assert told(number, *answer.functions) is None, answer.name
        limit = 40 if number in TRAINING else 4  # a check takes two seconds, on a busy machine four
        assert time.process_time() - started < limit, f"{answer.name} takes too long"
        assert passes_hidden(EXERCISES[number], answer.functions), f"{answer.name} fails the hidden tests"
    for answer in wrongs:
        said = told(number, *answer.functions)
        assert said is not None, f"{answer.name} passed"
        assert answer.message in said, f"{answer.name} should hear «{answer.message}», but: {said}"
    caught = sum(not passes_hidden(EXERCISES[number], answer.functions) for answer in wrongs)
    assert caught > len(wrongs) / 2, f"the hidden tests notice only {caught} of {len(wrongs)} wrong answers"
    record_property("coursework", (number, len(wrongs), caught, len(rights)))


@pytest.mark.parametrize("number", EXERCISES)
def test_an_empty_stub_is_told_that_it_is_not_written_yet(number):
    def stub(*_, **__):
        raise NotImplementedError

    answers = next(answer.functions for answer in ANSWERS if answer.number == number)
    assert "not written yet" in told(number, *[stub for _ in answers])
    assert told(number, *[lambda *_, **__: None for _ in answers]) is not None, "None was accepted"


def test_every_exercise_has_a_check_and_every_check_an_exercise():
    for number in EXERCISES:
        engine.find(number)
    assert set(engine.CHECKS) == set(EXERCISES)
    assert {answer.number for answer in ANSWERS} == set(EXERCISES)
    assert len(EXERCISES) >= 50


# ---------------------------------------------------------------------------------------------------------- the engine


def test_an_endless_answer_is_stopped():
    def endless(batches):
        while True:
            pass

    started = time.monotonic()
    assert "still running after 0.5 seconds" in told("0-c", endless, seconds=0.5)
    assert time.monotonic() - started < 10


def test_a_loop_that_swallows_errors_is_stopped_too():
    def stubborn(batches):
        while True:
            try:
                sum(batches)
            except Exception:
                continue

    assert "still running" in told("0-c", stubborn, seconds=0.5)


def test_nothing_is_stopped_after_the_check_has_ended():
    for _ in range(50):
        told("0-c", lambda batches: time.sleep(0.002), seconds=0.003)
    time.sleep(0.05)  # a stop that came too late would end this test


def test_an_error_names_the_line_of_the_students_own_code():
    def stumbles(batches):
        return batches[17]

    said = told("0-c", stumbles)
    assert "IndexError" in said and "in stumbles" in said and "return batches[17]" in said


@pytest.mark.parametrize("value", ["three", object(), {"a": 1}, [1, [2, 3]]], ids=["text", "object", "dict", "ragged"])
def test_an_answer_of_another_kind_is_described(value):
    assert "should be made of numbers" in told("0-c", lambda batches: value)


def test_leaving_is_not_passing():
    assert "SystemExit" in told("0-c", lambda batches: exit())


@pytest.mark.parametrize("number", ["9.9-z", "4.1", "", "../../etc", "0-z"])
def test_an_unknown_exercise_is_told(number):
    with pytest.raises(ValueError, match="there is no exercise"):
        check(number, len)


def test_an_exercise_has_one_check():
    with pytest.raises(ValueError, match="one check only"):
        engine.exercise("0-a")


def test_numbers_are_compared_as_numbers():
    assert engine.same([1, 2], (1.0, 2.0))
    assert engine.same(1e6 + 1e-4, 1e6, 1e-9) and not engine.same(1e-4, 0, 1e-9)
    assert engine.same(float("nan"), float("nan")) and not engine.same(float("nan"), 0)
    assert not engine.same(float("inf"), 1)
    with pytest.raises(engine.Wrong, match=re.escape("should have the shape (3,), but has (2,)")):
        engine.same([1, 2], [1, 2, 3])


# -------------------------------------------------------------------------------------------------- hints and progress


def test_hints_come_one_at_a_time_and_then_all(monkeypatch):
    monkeypatch.chdir(NOTEBOOKS)
    shown = []
    monkeypatch.setattr(notebooks, "display", lambda data, raw: shown.append(data["text/markdown"]))
    notebooks.revealed.clear()
    for _ in range(4):
        hint("0-c")
    assert shown[0].startswith("**Hint 1") and shown[1].startswith("**Hint 2") and shown[2].startswith("**Hint 3")
    assert all(part in shown[3] for part in shown[:3])
    with pytest.raises(ValueError, match="no notebook in this folder has an exercise"):
        hint("0-z")


@pytest.mark.parametrize("number", EXERCISES)
def test_every_exercise_has_three_hints(number):
    assert len(EXERCISES[number].hints) == 3 and all(len(text) > 25 for text in EXERCISES[number].hints)


def test_progress_counts_what_the_saved_notebooks_say(tmp_path, monkeypatch, capsys):
    text = (NOTEBOOKS / "05_1_preprocessing.ipynb").read_text(encoding="utf-8")
    (tmp_path / "05_1_preprocessing.ipynb").write_text(text.replace("5.1-a passed", "5.1-a failed"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    progress()
    assert re.fullmatch(r"05_1_preprocessing +4 of 5 exercises passed, 15 of 16 points\n", capsys.readouterr().out)


def test_a_broken_notebook_is_named(tmp_path, monkeypatch):
    (tmp_path / "04_1.ipynb").write_text('{"cells": [', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"04_1.ipynb cannot be read as a notebook"):
        progress()
