"""The students' edition holds no answer, works, and is brought up to date without losing a student's work."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from course_lib.coursework import editions, notebooks
from tests.notebook_tools import NOTEBOOKS

ROOT = NOTEBOOKS.parent
PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course") / "student"
    assert editions.release(folder) == [path.stem for path in PATHS]
    return folder


def lines_of(code):
    """The lines of a piece of code that say something of their own."""
    lines = (re.sub(r"\s+", "", line.split("#")[0]) for line in code.splitlines())
    return {line for line in lines if len(line) > 30 and "default_rng(" not in line}  # a seed gives nothing away


def secrets(path):
    """Lines of solutions and hidden tests that stand nowhere else in the notebook."""
    book = notebooks.read(path)
    found = list(notebooks.exercises(book))
    hidden = {line for e in found for line in lines_of(e.hidden_tests)}
    answers = {line for e in found for line in lines_of(editions.SOLUTION.search(notebooks.source(e.answer))[0])}
    cells = [id(cell) for e in found for cell in (e.answer, e.test)]
    lesson = [notebooks.source(cell) for cell in book["cells"] if id(cell) not in cells]
    return (hidden | answers) - {line for text in lesson for line in lines_of(text)}


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_neither_the_notebooks_nor_the_package_hold_an_answer(released, path):
    wanted = secrets(path)
    assert len(wanted) > 5
    files = [released / path.name, *(ROOT / "course_lib" / "coursework").rglob("*.py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        if file.suffix == ".ipynb":
            book = json.loads(text)
            text = "\n".join(notebooks.source(cell) for cell in book["cells"])
            assert not re.search(r"(?m)^ *### (BEGIN|END) ", text)
        assert not wanted & lines_of(text), f"{file.name} gives away a part of an answer"


def test_a_given_away_answer_would_be_found(released):
    path = NOTEBOOKS / "00_start_here.ipynb"
    solution = next(notebooks.exercises(notebooks.read(path))).answer
    assert not secrets(path) & lines_of((released / path.name).read_text(encoding="utf-8"))
    everything = lines_of("\n".join(notebooks.source(e.answer) for e in notebooks.exercises(notebooks.read(path))))
    assert secrets(path) & everything and "### BEGIN SOLUTION" in notebooks.source(solution)


def test_everything_else_stays(released):
    for path in PATHS:
        ours, theirs = notebooks.read(path), notebooks.read(released / path.name)
        changed = [a["id"] for a, b in zip(ours["cells"], theirs["cells"], strict=True) if a != b]
        exercises = list(notebooks.exercises(ours))
        assert changed == [cell["id"] for e in exercises for cell in (e.answer, e.test)]
        nbformat.validate(nbformat.read(released / path.name, as_version=4))


def test_the_stubs_fail_politely(released):
    notebook = nbformat.read(released / "00_start_here.ipynb", as_version=4)
    NotebookClient(notebook, allow_errors=True, resources={"metadata": {"path": str(released.parent)}}).execute()
    tests = [cell for cell in notebook.cells if "exercise-test" in cell.metadata.get("tags", [])]
    assert len(tests) == 4
    for cell in tests:
        (output,) = cell.outputs
        assert output.ename == "Wrong" and "not written yet" in output.evalue
        assert output.traceback == [output.evalue], "no traceback through the engine"


# -------------------------------------------------------------------------------------------------------- an update


def edit(path, change):
    book = notebooks.read(path)
    change(book)
    path.write_text(json.dumps(book), encoding="utf-8")


def cell(text, name):
    return {"cell_type": "code", "id": name, "metadata": {}, "source": text, "outputs": [], "execution_count": None}


def test_an_update_keeps_answers_added_cells_and_what_was_passed(tmp_path):
    reference, folder = tmp_path / "notebooks", tmp_path / "student"
    reference.mkdir()
    name = "00_start_here.ipynb"
    original = notebooks.read(NOTEBOOKS / name)
    (reference / name).write_text(json.dumps(original), encoding="utf-8")
    editions.release(folder, reference)

    def work(book):
        exercise = next(notebooks.exercises(book))
        exercise.answer["source"] = "def mean_over_length(x):\n    return x.mean(1)"
        exercise.test["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "0-a passed\n"}]
        book["cells"].insert(3, cell("1 + 1  # my own", "mine"))
        book["cells"].insert(0, cell("# notes at the top", "top"))

    edit(folder / name, work)
    mine = (folder / name).read_bytes()
    assert editions.release(folder, reference) == []
    assert (folder / name).read_bytes() == mine, "without a new version nothing is touched"

    def new_version(book):
        book["cells"][0] = {**book["cells"][0], "id": "newtitle", "source": "# A better title"}
        book["cells"][4] = {**book["cells"][4], "id": "newcell", "source": "## Better words"}

    edit(reference / name, new_version)
    assert editions.release(folder, reference) == ["00_start_here"]
    updated = notebooks.read(folder / name)
    exercises = list(notebooks.exercises(updated))
    assert notebooks.source(exercises[0].answer) == "def mean_over_length(x):\n    return x.mean(1)"
    assert exercises[0].passed and not exercises[1].passed
    assert editions.STUB in notebooks.source(exercises[1].answer)
    ids = [c["id"] for c in updated["cells"]]
    assert ids[:2] == ["top", "newtitle"] and ids[4] == "mine"
    assert ids[3] == original["cells"][2]["id"], "an added cell stays behind the one that it followed"
    assert "Better words" in json.dumps(updated) and len(ids) == len(set(ids)) == len(original["cells"]) + 2
    assert (folder / "previous" / name).read_bytes() == mine


def test_an_interrupted_release_leaves_whole_notebooks(tmp_path, monkeypatch):
    folder = tmp_path / "student"
    editions.release(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("*.ipynb")}
    reference = tmp_path / "notebooks"
    reference.mkdir()
    for path in PATHS:
        book = copy.deepcopy(notebooks.read(path))
        book["cells"][0]["source"] += " (new)"
        (reference / path.name).write_text(json.dumps(book), encoding="utf-8")

    def full(self, *_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        editions.release(folder, reference)
    assert {path.name: path.read_bytes() for path in folder.glob("*.ipynb")} == before


def test_the_reference_is_never_overwritten():
    with pytest.raises(ValueError, match="holds the reference edition"):
        editions.release(NOTEBOOKS)


def test_a_broken_notebook_of_a_student_is_named_and_left(tmp_path):
    editions.release(tmp_path)
    (tmp_path / "00_start_here.ipynb").write_text("{", encoding="utf-8")
    (tmp_path / editions.RELEASED).unlink()
    with pytest.raises(ValueError, match=r"00_start_here.ipynb cannot be read as a notebook"):
        editions.release(tmp_path)
    assert (tmp_path / "00_start_here.ipynb").read_text(encoding="utf-8") == "{"


def test_the_command_releases(tmp_path):
    folder = tmp_path / "mine"
    command = [sys.executable, "-m", "course_lib", "coursework", "release", str(folder)]
    first = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    again = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "00_start_here" in first and "are up to date" in again
