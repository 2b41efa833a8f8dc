"""Grading a class with nbgrader: ``python -m course_lib coursework class FOLDER``, then ``… grade FOLDER``.

nbgrader keeps the gradebook, takes manual grades, gives feedback and has a browser interface, but runs a submission
with all the rights of the teacher. So submissions are run first, each in a :class:`~course_lib.coursework.box.Box`,
and nbgrader is given the result: its "submitted" notebooks are our executed ones. In the class's folder lie

    source/A/A.ipynb             our notebook A with nbgrader's marks      (made by ``class``)
    release/A/A.ipynb            what students get, if not by ``make lab`` (made by ``class``)
    submitted/STUDENT/A/A.ipynb  what they hand in                         (put there by you, nbgrader, or JupyterHub)
    executed/, autograded/       the same, run, and graded                 (made by ``grade``)
    grades.csv, grades.json      one line a student and assignment         (made by ``grade``)

A submission is graded by its answers: the tests are put back as they are in ours, whatever was done to them.
"""

import copy
import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from course_lib.coursework import box, editions
from course_lib.coursework.notebooks import HEADING, Book, Cell, Exercise, exercises, read, source

LARGEST = 20_000_000  # bytes of a submission; ours with all outputs have about one million
CONFIG = f"""# nbgrader's settings for this class, written by the course; yours may follow below.
c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "transformers"
c.CourseDirectory.submitted_directory = "executed"  # submissions are run in a box before nbgrader sees them
c.ClearSolutions.code_stub = {{"python": {editions.STUB!r}}}
c.ClearSolutions.begin_solution_delimeter = "    ### BEGIN SOLUTION"
c.ClearSolutions.end_solution_delimeter = "    ### END SOLUTION"
c.Autograde.sanitize_preprocessors = []
c.Autograde.autograde_preprocessors = [
    "nbgrader.preprocessors.{{}}".format(name)
    for name in ("LimitOutput", "SaveAutoGrades", "AssignLatePenalties", "CheckCellMetadata")
]
"""

# What an answer could replace in order to pass, by name: the identity of each function before any answer was run.
SNAPSHOT = """
import builtins, importlib, json, math, sys
import numpy
importlib.import_module("course_lib.coursework.notebook_{name}")
from course_lib.coursework import engine
def identity(value):
    return [id(value), id(getattr(value, "__code__", None))]
modules = [name for name in sys.modules if name.startswith("course_lib.coursework")]
others = ("builtins", "math", "numpy", "numpy.linalg", "torch", "torch.nn.functional")
modules += [name for name in others if name in sys.modules]
found = {{m: {{k: identity(v) for k, v in vars(sys.modules[m]).items() if callable(v)}} for m in modules}}
found["builtins"].pop("input", None)  # Jupyter sets it anew for each cell
found["CHECKS"] = {{number: identity(check) for number, check in engine.CHECKS.items()}}
print(json.dumps(found))
"""
# A test as it is run: in a name space of its own, so that nothing the student named ``len`` or ``check`` stands in it.
TEST = """
import builtins, json, math, sys
import numpy
from course_lib.coursework import engine
for module, names in json.loads(expected).items():
    place = engine.CHECKS if module == "CHECKS" else vars(sys.modules[module])
    for name, identity in names.items():
        value = place.get(name)
        if [id(value), id(getattr(value, "__code__", None))] != identity:
            raise RuntimeError(f"{module}.{name} was replaced: an answer must leave the libraries as they are")
missing = [name for name in names_of_answers if name not in student]
if missing:
    raise NameError(f"{' and '.join(missing)} should be defined in the cell of the answer")
space = {"np": numpy, "math": math, "check": engine.check, **{name: student[name] for name in names_of_answers}}
if "torch" in sys.modules:
    space["torch"] = sys.modules["torch"]
exec(compile(test, "<test>", "exec"), space)
"""


class Rejected(Exception):
    """A submission that cannot be run, with the reason that its author is told."""


# --------------------------------------------------------------------------------------------------- the class's folder


def nbgrader(folder: Path, *words: str) -> str:
    """Run an nbgrader command in a class's folder and return what it said.

    Raises:
        RuntimeError: if nbgrader is not installed, or fails; the text holds its last lines.
    """
    environment = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    command = [sys.executable, "-m", "nbgrader", *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if "No module named nbgrader" in done.stderr:
        raise RuntimeError('grading needs nbgrader: pip install -e ".[test]" in the folder of the course')
    if done.returncode:
        raise RuntimeError(f"nbgrader {' '.join(words)} failed:\n" + "\n".join(done.stderr.splitlines()[-20:]))
    return done.stderr


def set_up(folder: Path, names: Iterable[str] | None = None, reference: Path = editions.REFERENCE) -> list[str]:
    """Make or update a class's folder, and return the names of its assignments.

    Args:
        folder: of the class; an ``nbgrader_config.py`` that is there stays.
        names: of the notebooks that become assignments; None: all that have exercises.
        reference: where our notebooks are.

    Raises:
        ValueError: if there is no such notebook.
    """
    wanted = sorted(path.stem for path in reference.glob("*.ipynb")) if names is None else list(names)
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nbgrader_config.py"
    if not config.exists():
        config.write_text(CONFIG, encoding="utf-8")
    for name in wanted:
        path = reference / f"{name}.ipynb"
        if not path.exists():
            raise ValueError(f"there is no notebook {name}.ipynb in {reference}")
        (folder / "source" / name).mkdir(parents=True, exist_ok=True)
        editions.write(folder / "source" / name / path.name, editions.assignment(read(path)))
        nbgrader(folder, "generate_assignment", name, "--create", "--force")
    return wanted


# -------------------------------------------------------------------------------------------- preparing a submission


def prepared(submission: Path, ours: Book) -> Book:
    """The student's cells with our tests in place of theirs: what is run.

    Args:
        submission: a notebook from the students' edition, or from ``release/``.
        ours: the same notebook as :func:`editions.assignment` makes it.

    Raises:
        Rejected: if the file is too large, is no notebook, or has two cells of one id or two exercises of one number.
    """
    size = submission.stat().st_size
    if size > LARGEST:
        raise Rejected(f"the file has {size / 1e6:.0f} MB; at most {LARGEST / 1e6:.0f} MB are accepted")
    try:
        theirs = read(submission)
    except ValueError as error:
        raise Rejected(str(error)) from None
    cells: list[Cell] = []
    ids: set[str] = set()
    wanted = {exercise.number: exercise for exercise in exercises(ours)}
    number, answered = "", set[str]()
    for cell in theirs["cells"]:
        if cell["cell_type"] not in ("code", "markdown", "raw") or not isinstance(source(cell), str):
            raise Rejected(f"a cell of the kind {cell['cell_type']!r} is not one of a notebook")
        name = str(cell.get("id", f"cell-{len(cells)}"))
        if name in ids:
            raise Rejected(f"two cells have the id {name!r}: copy the text of a cell, not the cell, in a text editor")
        ids.add(name)
        tags = cell["metadata"].get("tags", []) if isinstance(cell["metadata"], dict) else []
        heading = HEADING.match(source(cell)) if cell["cell_type"] == "markdown" else None
        if heading:
            number = heading["number"]
        if "exercise-test" in tags or "exercise-hidden" in tags:
            continue
        if "exercise-solution" in tags and number in wanted:
            if number in answered:
                raise Rejected(f"exercise {number} has two cells for the answer: which one counts?")
            answered.add(number)
            cells += _exercise(wanted[number], ours, source(cell))
        else:
            cells.append(_plain(cell, name))
    for number, exercise in wanted.items():
        if number not in answered:
            cells += _exercise(exercise, ours, editions.stub(exercise))
    return {**{key: ours[key] for key in ("metadata", "nbformat", "nbformat_minor")}, "cells": cells}


def _plain(cell: Cell, name: str) -> Cell:
    new: Cell = {"cell_type": cell["cell_type"], "id": re.sub(r"[^\w-]", "-", name)[:64], "metadata": {}}
    new["source"] = source(cell)
    return new | ({"outputs": [], "execution_count": None} if cell["cell_type"] == "code" else {})


def _exercise(exercise: Exercise, ours: Book, answer: str) -> list[Cell]:
    """An answer, and our two tests of it, marked for nbgrader."""
    place = next(i for i, cell in enumerate(ours["cells"]) if cell is exercise.test)
    return [{**exercise.answer, "source": answer}, *copy.deepcopy(ours["cells"][place : place + 2])]


def rejected(ours: Book, reason: str) -> Book:
    """What stands in for a submission that cannot be run: no answers, and the reason."""
    cells = [cell for exercise in exercises(ours) for cell in _exercise(exercise, ours, editions.stub(exercise))]
    for cell in cells:
        if cell["metadata"]["nbgrader"]["grade"]:
            cell["outputs"] = [_error("Rejected", reason)]
    text: Cell = {"cell_type": "markdown", "id": "reason", "metadata": {}, "source": f"**Not graded: {reason}**"}
    return {**ours, "cells": [text, *cells]}


def _error(name: str, text: str) -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": text, "traceback": [text]}


# ----------------------------------------------------------------------------------------------------------- running


def execute(book: Book, limits: box.Limits | None = None) -> Book:
    """Run a prepared notebook in a box and return it with outputs; what a limit ended says which one."""
    book = copy.deepcopy(book)
    answers = {exercise.number.replace(".", "_"): exercise.answer_names for exercise in _marked(book)}
    name = next(iter(answers)).split("-")[0]  # "4_1"
    with box.Box(limits) as opened:
        before = opened.run(SNAPSHOT.format(name=name)).outputs
        expected = "".join(output.get("text", "") for output in before)
        count = 0
        for cell in book["cells"]:
            if cell["cell_type"] != "code":
                continue
            count += 1
            code = source(cell)
            graded = cell["metadata"].get("nbgrader", {}).get("grade")
            if graded:
                number = cell["metadata"]["nbgrader"]["grade_id"].rsplit("-", 1)[0]
                space = {"expected": expected, "test": code, "names_of_answers": answers[number]}
                student = '"student": __import__("__main__").__dict__'
                code = f'__import__("builtins").exec({TEST!r}, {{**{space!r}, {student}}})'
            result = opened.run(code)
            outputs = result.outputs
            if graded:  # nbgrader takes a number that is shown for a grade, and what is written to stderr for an error
                outputs = [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stdout"]
            if result.reason:
                outputs = [*outputs, _error("Stopped", result.reason)]
            cell["outputs"], cell["execution_count"] = outputs, count
    return book


def _marked(book: Book) -> list[Exercise]:
    """The exercises of a prepared notebook, found by nbgrader's marks: headings and tags may be gone."""
    cells = {cell["metadata"]["nbgrader"]["grade_id"]: cell for cell in book["cells"] if "nbgrader" in cell["metadata"]}
    names = [name for name, cell in cells.items() if cell["metadata"]["nbgrader"]["solution"]]
    empty: Cell = {"cell_type": "markdown", "metadata": {}, "source": ""}
    return [
        Exercise(name.replace("_", "."), "", "", 0, 0, empty, cells[name], cells[f"{name}-visible"]) for name in names
    ]


def run_submissions(
    folder: Path,
    name: str,
    workers: int,
    limits: box.Limits | None = None,
    report: Callable[[str], None] = print,
) -> int:
    """Run the submissions of an assignment that were not run yet, or have changed since; return how many.

    Each result is stored as soon as it is there, so an interrupted run is taken up where it ended.
    """
    ours = read(folder / "source" / name / f"{name}.ipynb")
    version = hashlib.sha256(json.dumps(ours, sort_keys=True).encode()).hexdigest()

    def run_one(submission: Path) -> bool:
        student = submission.parts[-3]
        target = folder / "executed" / student / name / f"{name}.ipynb"
        with submission.open("rb") as file:
            state = {"submission": hashlib.file_digest(file, "sha256").hexdigest(), "assignment": version}
        if target.exists() and read(target)["metadata"].get("coursework") == state:
            return False
        try:
            book = execute(prepared(submission, ours), limits)
        except Rejected as reason:
            book = rejected(ours, str(reason))
        book["metadata"] = {**book["metadata"], "coursework": state}
        target.parent.mkdir(parents=True, exist_ok=True)
        if (stamp := submission.parent / "timestamp.txt").exists():
            shutil.copy(stamp, target.parent)
        shutil.rmtree(folder / "autograded" / student / name, ignore_errors=True)  # or nbgrader keeps the old grade
        editions.write(target, book)
        report(f"{student}: {'; '.join(reasons(book)) or 'all passed'}")
        return True

    found = sorted((folder / "submitted").glob(f"*/{name}/{name}.ipynb"))
    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(run_one, found))


def reasons(book: Book) -> list[str]:
    """Why answers and tests failed: one line for each reason, with the exercises that it concerns."""
    found: dict[str, list[str]] = {}
    for cell in book["cells"]:
        mark = cell["metadata"].get("nbgrader", {})
        errors = [output for output in cell["outputs"] if output["output_type"] == "error"] if mark else []
        for error in errors:
            text = (error["evalue"] or error["ename"]).split("\n")[0]
            if text not in ("KeyboardInterrupt", editions.UNWRITTEN):  # a better reason stands beside these
                number = re.sub("-(visible|hidden)$", "", mark["grade_id"]).replace("_", ".")
                numbers = found.setdefault(text.removeprefix(f"✗ {number}: "), [])
                numbers += [number] if number not in numbers else []
    return [f"{', '.join(numbers)}: {text}" for text, numbers in found.items()]


# -------------------------------------------------------------------------------------------------------- the grades


def grade(folder: Path, names: Iterable[str] | None = None, workers: int = 2, limits: box.Limits | None = None) -> Path:
    """Run and grade what was submitted to a class's assignments, and return the path of ``grades.csv``.

    Raises:
        RuntimeError: if there can be no box on this computer, or nbgrader fails.
        ValueError: if the folder is not that of a class.
    """
    if why_not := box.unavailable():
        raise RuntimeError(why_not)
    if not (folder / "source").is_dir():
        raise ValueError(f"{folder} is not a class's folder; make one: python -m course_lib coursework class {folder}")
    assignments = sorted(path.name for path in (folder / "source").iterdir()) if names is None else list(names)
    for name in assignments:
        run_submissions(folder, name, workers, limits)
        if list((folder / "executed").glob(f"*/{name}/{name}.ipynb")):
            nbgrader(folder, "autograde", name, "--create")
    return export(folder)


def export(folder: Path) -> Path:
    """Write all grades, manual ones too, to ``grades.csv`` and ``grades.json``; return the former's path."""
    from nbgrader.api import Gradebook

    rows = []
    with Gradebook(f"sqlite:///{(folder / 'gradebook.db').resolve()}") as gradebook:
        for assignment in gradebook.assignments:
            for submission in assignment.submissions:
                row: dict[str, Any] = {"student": submission.student_id, "assignment": assignment.name}
                row |= {"score": submission.score, "max_score": submission.max_score}
                row["late_penalty"] = submission.late_submission_penalty or 0.0
                row["exercises"] = {}
                for notebook in submission.notebooks:
                    for one in sorted(notebook.grades, key=lambda one: one.name):
                        number = one.name.rsplit("-", 1)[0].replace("_", ".")
                        row["exercises"][number] = row["exercises"].get(number, 0.0) + one.score
                executed = folder / "executed" / submission.student_id / assignment.name / f"{assignment.name}.ipynb"
                row["reasons"] = reasons(read(executed)) if executed.exists() else []
                rows.append(row)
    rows.sort(key=lambda row: (row["assignment"], row["student"]))
    editions.write(folder / "grades.json", rows)
    path = folder / "grades.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["student", "assignment", "score", "max_score", "late_penalty", "exercises", "reasons"])
        for row in rows:
            points = " ".join(f"{number}={score:g}" for number, score in row["exercises"].items())
            writer.writerow([*list(row.values())[:5], points, " | ".join(row["reasons"])])
    return path
