"""The students' notebooks, made from ours: ``python -m course_lib coursework release FOLDER``.

Ours, in ``notebooks/``, hold solutions and hidden tests; a student's copy holds neither. ``release`` brings such copies
up to date without losing what was written into them. :func:`assignment` adds what nbgrader needs to grade them.
"""

import copy
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from course_lib.coursework.notebooks import Book, Cell, Exercise, exercises, read, source

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "notebooks"
UNWRITTEN = "write your answer here"
STUB = f'raise NotImplementedError("{UNWRITTEN}")'
SOLUTION = re.compile(r"(?ms)^( *)### BEGIN SOLUTION\n.*?^ *### END SOLUTION$")
HIDDEN_TESTS = re.compile(r"(?ms)^ *### BEGIN HIDDEN TESTS\n.*?^ *### END HIDDEN TESTS\n?")
RELEASED = ".released.json"  # in the students' folder: what each cell was like when it was released
PREVIOUS = "previous"  # the folder to which an updated notebook's former self is moved


def student(notebook: Book) -> Book:
    """A notebook without solutions, hidden tests and what the tests printed; all else is kept, outputs too."""
    copied = copy.deepcopy(notebook)
    for exercise in exercises(copied):
        exercise.answer["source"] = stub(exercise)
        exercise.test["source"] = HIDDEN_TESTS.sub("", source(exercise.test)).rstrip()
        for cell in (exercise.answer, exercise.test):
            cell["outputs"], cell["execution_count"] = [], None
    return copied


def stub(exercise: Exercise) -> str:
    """The cell of an answer as a student gets it."""
    return SOLUTION.sub(rf"\1{STUB}", source(exercise.answer))


def assignment(notebook: Book) -> Book:
    """A notebook as nbgrader's source: each exercise has one answer and two tests, visible and hidden.

    Each test gives half the points, so an answer that passes the visible one alone gets half of them.
    """
    copied = copy.deepcopy(notebook)
    for cell in copied["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    for exercise in list(exercises(copied)):
        name = exercise.number.replace(".", "_")  # nbgrader takes letters, digits, - and _ only
        hidden = copy.deepcopy(exercise.test)
        tests = f"### BEGIN HIDDEN TESTS\n{exercise.hidden_tests}### END HIDDEN TESTS"
        hidden["source"] = f"# Run when your work is graded.\n{tests}"
        exercise.test["source"] = HIDDEN_TESTS.sub("", source(exercise.test)).rstrip()
        hidden["id"] = f"{name}-hidden"
        hidden["metadata"] = {"tags": ["exercise-hidden"]}
        cells = copied["cells"]
        cells.insert(next(i for i, cell in enumerate(cells) if cell is exercise.test) + 1, hidden)
        _mark(exercise.answer, name, solution=True)
        _mark(exercise.test, f"{name}-visible", points=exercise.points / 2)
        _mark(hidden, f"{name}-hidden", points=exercise.points / 2)
    return copied


def _mark(cell: Cell, grade_id: str, solution: bool = False, points: float | None = None) -> None:
    mark: dict[str, Any] = {"schema_version": 3, "grade_id": grade_id, "task": False}
    mark |= {"solution": solution, "grade": points is not None, "locked": not solution}
    cell["metadata"]["nbgrader"] = mark if points is None else mark | {"points": points, "cell_type": "code"}


# ------------------------------------------------------------------------------------------------------- releasing


def release(folder: Path, reference: Path = REFERENCE) -> list[str]:
    """Write or update the students' notebooks in a folder, and return the names of those that changed.

    Answers stay, and so do cells that were added (after the cell that they followed). A notebook that a student has
    changed in any way is first copied to ``previous/``.

    Raises:
        ValueError: if the folder is the reference itself or a notebook in it cannot be read.
    """
    folder = folder.resolve()
    if folder == reference.resolve():
        raise ValueError(f"{folder} holds the reference edition: release into another folder")
    folder.mkdir(parents=True, exist_ok=True)
    before = _released(folder)
    now: dict[str, dict[str, str]] = {}
    changed = []
    for path in sorted(reference.glob("*.ipynb")):
        new = student(read(path))
        now[path.name] = {cell["id"]: _digest(cell) for cell in new["cells"]}
        target = folder / path.name
        if target.exists():
            if now[path.name] == before.get(path.name):
                continue  # nothing new for a notebook that may be in use
            old = read(target)
            if {cell.get("id"): _digest(cell) for cell in old["cells"]} != before.get(path.name):
                (folder / PREVIOUS).mkdir(exist_ok=True)
                shutil.copy2(target, folder / PREVIOUS / path.name)
                new = _carried_over(old, new, before.get(path.name, {}))
        write(target, new)
        changed.append(path.stem)
    write(folder / RELEASED, now)
    return changed


def _carried_over(old: Book, new: Book, released: dict[str, str]) -> Book:
    """The new notebook with the answers and the added cells of an old one."""
    before = {exercise.number: exercise for exercise in exercises(old)}
    for exercise in exercises(new):
        mine = before.get(exercise.number)
        if mine is not None and STUB not in source(mine.answer):
            exercise.answer["source"] = source(mine.answer)
            if source(mine.test) == source(exercise.test):
                exercise.test["outputs"] = mine.test["outputs"]  # it says whether the answer passed
    known = {cell["id"] for cell in new["cells"]} | set(released)
    places = {cell["id"]: i for i, cell in enumerate(new["cells"])}
    added: dict[int, list[Cell]] = {}
    place = -1
    for cell in old["cells"]:
        if cell.get("id") in known:
            place = places.get(cell["id"], place)
        elif "exercise-solution" not in cell["metadata"].get("tags", []):
            added.setdefault(place, []).append(cell)
    merged = added.get(-1, [])
    for i, cell in enumerate(new["cells"]):
        merged += [cell, *added.get(i, [])]
    return {**new, "cells": merged}


def _digest(cell: Cell) -> str:
    """What tells whether a cell's text has changed."""
    return hashlib.sha256(f"{cell['cell_type']}\n{source(cell)}".encode()).hexdigest()[:16]


def _released(folder: Path) -> dict[str, dict[str, str]]:
    path = folder / RELEASED
    try:
        found: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError:
        return {}  # every notebook then counts as changed, and is kept in previous/
    return found


def write(path: Path, content: Any) -> None:
    """Replace a file in one step, so that an interruption leaves the old one."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8", newline="\n")
    os.replace(part, path)
