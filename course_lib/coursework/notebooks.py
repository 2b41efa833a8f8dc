"""The exercises as they stand in notebooks: their parts, their hints, and which of them are passed."""

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from IPython.display import display

Cell = dict[str, Any]
Book = dict[str, Any]  # a notebook as it is read from its file

HEADING = re.compile(
    r"### Exercise (?P<number>[\d.]+-[a-z]) · (?P<title>[^·\n]+) · (?P<difficulty>●○○|●●○|●●●)"
    r" · (?P<minutes>\d+) min · (?P<points>\d+) points?"
)
HINT = re.compile(r"(?s)<details>\s*<summary>(.*?)</summary>(.*?)</details>")
revealed: dict[str, int] = {}  # how many hints of each exercise this kernel has shown


def source(cell: Cell) -> str:
    """The text of a cell, which a file may hold as a list of lines."""
    text = cell["source"]
    return text if isinstance(text, str) else "".join(text)


@dataclass(frozen=True)
class Exercise:
    """An exercise of a notebook: the task, the stub with its solution, and the test.

    Attributes:
        number: "4.1-b".
        points: what it is worth.
        task, answer, test: its three cells, as they stand in the notebook.
    """

    number: str
    title: str
    difficulty: str
    minutes: int
    points: int
    task: Cell
    answer: Cell
    test: Cell

    @property
    def hints(self) -> list[str]:
        """The hints, each as Markdown."""
        return [f"**{summary.strip()}**: {text.strip()}" for summary, text in HINT.findall(source(self.task))]

    @property
    def answer_names(self) -> list[str]:
        """What the student writes, in the order in which the test hands it to ``check``."""
        calls = [node for node in ast.walk(ast.parse(source(self.test))) if isinstance(node, ast.Call)]
        check = next(call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "check")
        return [name.id for name in check.args[1:] if isinstance(name, ast.Name)]

    @property
    def hidden_tests(self) -> str:
        """The code that only the grader runs."""
        found = re.search(r"(?s)### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", source(self.test))
        return found[1] if found else ""

    @property
    def passed(self) -> bool:
        """Whether the test's stored output says so."""
        printed = "".join("".join(output.get("text", "")) for output in self.test.get("outputs", []))
        return f"{self.number} passed" in printed.splitlines()


def exercises(notebook: Book) -> Iterator[Exercise]:
    """The exercises of a notebook that was read as JSON, in order; cells that were put in between are passed over."""
    cells = notebook["cells"]
    for i, task in enumerate(cells):
        heading = HEADING.match(source(task)) if task["cell_type"] == "markdown" else None
        if heading is None:
            continue
        parts: dict[str, Cell] = {}
        for cell in cells[i + 1 :]:
            if cell["cell_type"] == "markdown" and HEADING.match(source(cell)):
                break
            for part in ("exercise-solution", "exercise-test"):
                if part in cell["metadata"].get("tags", []):
                    parts.setdefault(part, cell)
        if len(parts) == 2:
            yield Exercise(
                heading["number"], heading["title"].strip(), heading["difficulty"], int(heading["minutes"]),
                int(heading["points"]), task, parts["exercise-solution"], parts["exercise-test"],
            )  # fmt: skip


def read(path: Path) -> Book:
    """Read a notebook.

    Raises:
        ValueError: if the file is not one; the text names the file.
    """
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        if not all({"cell_type", "source", "metadata"} <= set(cell) for cell in notebook["cells"]):
            raise KeyError("a cell without type, source or metadata")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path.name} cannot be read as a notebook ({error!r}): restore it from a copy") from None
    return notebook


def hint(number: str) -> None:
    """Show the next hint of an exercise of a notebook in this folder; after the last one, all of them again.

    Raises:
        ValueError: if no notebook in this folder has such an exercise.
    """
    for path in sorted(Path().glob("*.ipynb")):
        for one in exercises(read(path)):
            if one.number == number:
                shown = revealed[number] = revealed.get(number, 0) + 1
                hints = one.hints if shown > len(one.hints) else [one.hints[shown - 1]]
                text = "\n\n".join(hints)
                display({"text/markdown": text, "text/plain": text}, raw=True)
                return
    raise ValueError(f"no notebook in this folder has an exercise {number!r}; its number stands in its heading")


def progress() -> None:
    """Print how many exercises of each notebook in this folder are passed, as far as the notebooks were saved."""
    for path in sorted(Path().glob("*.ipynb")):
        if not path.name.startswith("00"):  # that one is open, and not saved yet when this runs
            found = list(exercises(read(path)))
            passed = [one for one in found if one.passed]
            points, possible = (sum(one.points for one in some) for some in (passed, found))
            print(f"{path.stem:<34} {len(passed)} of {len(found)} exercises passed, {points:>2} of {possible} points")
