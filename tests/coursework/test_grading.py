"""A class of 200 is graded: fairly, in boxes, resumably, and unharmed by submissions that mean harm."""

import csv
import inspect
import json
import random
import re
import subprocess
import sys

import pytest

from course_lib.coursework import box, editions, grading, notebooks
from course_lib.coursework.box import Limits
from tests.coursework import answers_0, test_checks
from tests.coursework.answers import ANSWERS
from tests.notebook_tools import NOTEBOOKS

assert answers_0
WHY_NOT = box.unavailable()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
NAME = "00_start_here"
LIMITS = Limits(cell_seconds=4, seconds=60, memory=2 * 2**30, processes=60, output=200_000, disk=20 * 2**20)
EXERCISES = [exercise for number, exercise in test_checks.EXERCISES.items() if number.startswith("0-")]
STUDENTS = 200


def book_of(answers):
    """The exercises of notebook 00, without its lesson, with these answers by number; others are not written."""
    cells = [code("import numpy as np\nfrom course_lib.coursework import check", "first")]
    student = editions.student(notebooks.read(NOTEBOOKS / f"{NAME}.ipynb"))
    for exercise in notebooks.exercises(student):
        answer = exercise.answer | {"source": answers.get(exercise.number, notebooks.source(exercise.answer))}
        cells += [exercise.task, answer, exercise.test]
    return {"cells": cells, "metadata": student["metadata"], "nbformat": 4, "nbformat_minor": 5}


def code(text, name):
    return {"cell_type": "code", "id": name, "metadata": {}, "source": text, "outputs": [], "execution_count": None}


def written(answer):
    """An answer as a student would have it in the notebook: under the name that is asked for."""
    (name,) = test_checks.EXERCISES[answer.number].answer_names
    text = re.sub(r"(?m)^@.*\n", "", inspect.getsource(answer.functions[-1]))
    return f"{text}\n{name} = {answer.name}"


def deserved(answer):
    """Half of the points for each of the two tests that an answer passes."""
    exercise = test_checks.EXERCISES[answer.number]
    visible = test_checks.told(answer.number, *answer.functions) is None
    return exercise.points / 2 * (visible + test_checks.passes_hidden(exercise, answer.functions))


CHEAT = "import course_lib.coursework as c, course_lib.coursework.engine as e\n"
HOSTILE = {  # what stands in the cell of an answer, and a part of the reason for its 0 points
    "endless": ("while True: pass", "stopped after 4 seconds"),
    "stubborn": ("import signal\nsignal.signal(2, signal.SIG_IGN)\nwhile True: pass", "could not be stopped"),
    "fork-bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", ""),
    "ten-gigabytes": ("x = bytearray(10 * 2**30)\ndef softmax(scores): return x", "MemoryError"),
    "leaves": ("import os\nos._exit(0)", "the kernel ended"),
    "leaves-later": ("import os\ndef softmax(scores): os._exit(0)", "the kernel ended"),
    "deletes": (f"import shutil\nshutil.rmtree('{box.ROOT}', ignore_errors=True)", "should be defined"),
    "reads-solutions": (f"exec(open('{NOTEBOOKS}/{NAME}.ipynb').read())", "No such file"),
    "reads-others": ("import glob\nprint(glob.glob('/**/submitted/*', recursive=True)[0])", "should be defined"),
    "prints": ("while True: print('x' * 1000)", "bytes of output"),
    "no-check": (f"{CHEAT}c.check = e.check = lambda *a: print('0-b passed')", "engine.check was replaced"),
    "new-check": (
        "check = lambda *a: print('0-b passed')\ndef softmax(scores): return scores",
        "each row must sum to 1",
    ),
    "no-tests": (f"{CHEAT}e.CHECKS['0-b'] = lambda *a: None\ndef softmax(s): return s", "CHECKS.0-b was replaced"),
    "other-code": (f"{CHEAT}e.expect.__code__ = (lambda c, m: None).__code__", "engine.expect was replaced"),
    "allclose": ("np.allclose = lambda *a, **k: True\ndef softmax(s): return s", "numpy.allclose was replaced"),
    "torch": (
        "import torch\ntorch.allclose = lambda *a, **k: True\ndef softmax(s): return s",
        "each row must sum to 1",
    ),
    "shows-a-grade": ("def softmax(scores):\n    display(7.0)\n    return scores", "each row must sum to 1"),
    "system-exit": ("raise SystemExit", "SystemExit"),
}
FILES = {
    "corrupt": (b'{"cells": [', "cannot be read as a notebook"),
    "not-text": (b"\xff\xfe\x00PK", "cannot be read as a notebook"),
    "nested": (b"[" * 100_000, "cannot be read as a notebook"),
    "huge": (b" " * (grading.LARGEST + 1), "the file has 20 MB"),
}


@pytest.fixture(scope="module")
def school(tmp_path_factory):
    """A class's folder with 200 submissions, and the points that each deserves (hostile ones: none)."""
    folder = tmp_path_factory.mktemp("class")
    reference = tmp_path_factory.mktemp("reference")
    solved = {e.number: notebooks.source(e.answer) for e in EXERCISES}
    hidden = {e.number: e.test for e in EXERCISES}
    ours = book_of(solved)
    for exercise in notebooks.exercises(ours):
        exercise.test["source"] = notebooks.source(hidden[exercise.number])
    editions.write(reference / f"{NAME}.ipynb", ours)
    assert grading.set_up(folder, reference=reference) == [NAME]

    points = {}

    def submit(student, content):
        path = folder / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())

    for name, (text, _) in HOSTILE.items():
        submit(name, book_of({"0-b": text}))
    for name, (content, _) in FILES.items():
        submit(name, content)
    twice = book_of(solved)
    twice["cells"][2]["id"] = twice["cells"][5]["id"]
    submit("same-id", twice)
    again = book_of(solved)
    again["cells"].insert(3, again["cells"][2] | {"id": "copied"})
    submit("two-answers", again)
    points |= dict.fromkeys([*HOSTILE, *FILES, "same-id", "two-answers"], 0.0)

    draw = random.Random(7)
    marks = {id(answer): deserved(answer) for answer in ANSWERS if answer.number.startswith("0-")}
    while len(points) < STUDENTS:
        rights = draw.random() < 0.5  # some get most things right
        chosen = []
        for exercise in draw.sample(EXERCISES, draw.randint(1, 4)):
            answers = [answer for answer in ANSWERS if answer.number == exercise.number]
            chosen.append(draw.choice([a for a in answers if a.message is None or not rights or draw.random() < 0.1]))
        name = f"student-{len(points):03}"
        submit(name, book_of({answer.number: written(answer) for answer in chosen}))
        points[name] = sum(marks[id(answer)] for answer in chosen)
    return folder, points


def test_a_class_of_200_is_graded_with_an_interruption(school):
    folder, points = school
    said = []

    def interrupted(line):
        said.append(line)
        if len(said) == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        grading.run_submissions(folder, NAME, 2, LIMITS, interrupted)
    done = len(list(folder.glob(f"executed/*/{NAME}/{NAME}.ipynb")))
    assert 20 <= done < STUDENTS
    assert grading.run_submissions(folder, NAME, 2, LIMITS, said.append) == STUDENTS - done
    assert grading.run_submissions(folder, NAME, 2, LIMITS, said.append) == 0, "nothing is run twice"

    with grading.grade(folder, limits=LIMITS).open(encoding="utf-8", newline="") as file:
        rows = {row["student"]: row for row in csv.DictReader(file)}
    assert len(rows) == STUDENTS
    wrong = {name: (rows[name]["score"], points[name], rows[name]["reasons"]) for name in points if
             abs(float(rows[name]["score"]) - points[name]) > 1e-9}  # fmt: skip
    assert not wrong
    assert {row["max_score"] for row in rows.values()} == {"7.0"}
    assert set(points.values()) == set(range(8)), "every score from 0 to 7 occurs"
    for name, (_, reason) in (HOSTILE | FILES).items():
        assert reason in rows[name]["reasons"] and rows[name]["reasons"], f"{name}: {rows[name]['reasons']}"
    assert "two cells have the id" in rows["same-id"]["reasons"]
    assert "two cells for the answer" in rows["two-answers"]["reasons"]
    everything = json.loads((folder / "grades.json").read_text(encoding="utf-8"))
    assert {row["student"]: row["score"] for row in everything} == {n: float(r["score"]) for n, r in rows.items()}
    print(f"graded {len(rows)}: mean {sum(points.values()) / len(points):.2f} of 7 points")


def test_a_changed_submission_is_graded_again_and_only_that(school):
    folder, points = school
    student = next(name for name in points if name.startswith("student") and points[name] < 7)
    path = folder / "submitted" / student / NAME / f"{NAME}.ipynb"
    solved = {e.number: notebooks.source(e.answer) for e in EXERCISES}
    path.write_text(json.dumps(book_of(solved)), encoding="utf-8")
    said = []
    assert grading.run_submissions(folder, NAME, 2, LIMITS, said.append) == 1
    assert said == [f"{student}: all passed"]
    grading.grade(folder, limits=LIMITS)
    rows = json.loads((folder / "grades.json").read_text(encoding="utf-8"))
    assert [row["score"] for row in rows if row["student"] == student] == [7.0]


def test_what_students_get_is_the_same_from_nbgrader_and_from_us(school):
    folder, _ = school
    ours = editions.student(notebooks.read(folder / "source" / NAME / f"{NAME}.ipynb"))
    theirs = notebooks.read(folder / "release" / NAME / f"{NAME}.ipynb")
    for mine, other in zip(notebooks.exercises(ours), notebooks.exercises(theirs), strict=True):
        assert notebooks.source(mine.answer) == notebooks.source(other.answer)
        assert notebooks.source(mine.test) == notebooks.source(other.test)
    text = json.dumps(theirs)
    assert "SOLUTION" not in text and "halves" not in text and "hidden tests" not in text.lower()


def test_cells_that_a_student_added_or_changed_are_run(school):
    folder, _ = school
    ours = notebooks.read(folder / "source" / NAME / f"{NAME}.ipynb")
    book = book_of({"0-c": "def loss_per_token(batches):\n    return helper(batches)"})
    book["cells"].insert(
        1, code("def helper(batches):\n    return sum(map(sum, batches)) / sum(map(len, batches))", "x")
    )
    book["cells"] = [cell for cell in book["cells"] if "exercise-test" not in cell["metadata"].get("tags", [])]
    path = folder / "one.ipynb"
    path.write_text(json.dumps(book), encoding="utf-8")
    done = grading.execute(grading.prepared(path, ours), LIMITS)
    assert not [line for line in grading.reasons(done) if "0-c" in line]
    assert len([line for line in grading.reasons(done) if "not written yet" in line]) == 1


def test_feedback_and_the_browser_interface_find_the_class(school):
    folder, points = school
    student = next(name for name in points if name.startswith("student"))
    grading.nbgrader(folder, "generate_feedback", NAME, "--student", student)
    page = (folder / "feedback" / student / NAME / f"{NAME}.html").read_text(encoding="utf-8")
    assert "0_b-visible" in page or "0-b-visible" in page
    api = (
        "from nbgrader.apps.nbgraderapp import NbGraderApp\nfrom nbgrader.apps.api import NbGraderAPI\n"
        "from nbgrader.coursedir import CourseDirectory\nfrom traitlets.config import Config\n"
        f"c = Config(); c.CourseDirectory.root = {str(folder)!r}; c.CourseDirectory.submitted_directory = 'executed'\n"
        f"print(len(NbGraderAPI(CourseDirectory(config=c), config=c).get_submissions({NAME!r})))"
    )
    done = subprocess.run([sys.executable, "-c", api], capture_output=True, text=True)
    assert done.stdout.strip().endswith(str(STUDENTS)), done.stderr[-500:]


# ------------------------------------------------------------------------------------------------ what goes wrong


def test_an_unknown_notebook_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"there is no notebook 99_nothing\.ipynb"):
        grading.set_up(tmp_path, ["99_nothing"])


def test_a_folder_that_is_no_class_is_told(tmp_path):
    with pytest.raises(ValueError, match="is not a class's folder; make one"):
        grading.grade(tmp_path)


def test_without_a_box_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.setattr(box, "unavailable", lambda: "Grading needs bwrap.")
    with pytest.raises(RuntimeError, match="needs bwrap"):
        grading.grade(tmp_path)


def test_a_failure_of_nbgrader_is_told(tmp_path):
    with pytest.raises(RuntimeError, match="nbgrader autograde nothing failed"):
        grading.nbgrader(tmp_path, "autograde", "nothing")
