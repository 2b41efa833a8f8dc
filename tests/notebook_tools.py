"""Work on the notebooks: run them, edit them as text, and check what no comparison of outputs can see.

    python tests/notebook_tools.py run notebooks/05_1*.ipynb        run top to bottom and store the outputs
    python tests/notebook_tools.py to-text notebooks/05_1*.ipynb    write notebooks/05_1….py, to edit in any editor
    python tests/notebook_tools.py from-text notebooks/05_1*.py     put the edited text back into the notebook
    python tests/notebook_tools.py lint                             list what breaks the rules below

A notebook that is run again is the same to the byte. The rules are functions marked ``@rule``; each takes a notebook
and yields what is wrong. ``tests/test_notebooks.py`` applies them all, and shows each a notebook that it must reject.
"""

import argparse
import csv
import hashlib
import html
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
CELL_TIMEOUT = 120  # seconds
METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

Cell = dict[str, Any]
Rule = Callable[["Notebook"], Iterator[str]]
RULES: dict[str, Rule] = {}


def rule(function: Rule) -> Rule:
    """Register a rule under its name."""
    RULES[function.__name__] = function
    return function


# -------------------------------------------------------------------------------------------- reading a notebook


def text_of(value: str | list[str]) -> str:
    """Join what a notebook file stores as one string or as a list of lines."""
    return value if isinstance(value, str) else "".join(value)


def source(cell: Cell) -> str:
    """Return the text of a cell."""
    return text_of(cell["source"])


def where(cell: Cell) -> str:
    """Name a cell by its first line."""
    line = source(cell).strip().split("\n")[0]
    return f"cell «{line[:60]}»"


@dataclass(frozen=True)
class Notebook:
    """A notebook as it is stored."""

    name: str  # "05_1_preprocessing"
    content: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> "Notebook":
        """Read a file; its name without the suffix is the notebook's name."""
        return cls(path.stem, json.loads(path.read_text(encoding="utf-8")))

    @cached_property
    def code(self) -> list[Cell]:
        """The code cells."""
        return [cell for cell in self.content["cells"] if cell["cell_type"] == "code"]

    @cached_property
    def markdown(self) -> list[Cell]:
        """The text cells."""
        return [cell for cell in self.content["cells"] if cell["cell_type"] == "markdown"]

    @property
    def number(self) -> str:
        """The place in the outline that the name states: "05_1_preprocessing" is "5.1", "09_questions" is "9"."""
        digits = re.match(r"\d+(_\d+)*", self.name)
        if digits is None:
            raise ValueError(f"the notebook's name must begin with its number in the outline: {self.name}")
        return ".".join(str(int(part)) for part in digits[0].split("_"))


def outputs(cell: Cell) -> Iterator[tuple[str, str]]:
    """Yield every output of a code cell as (kind, text); the kind is a media type, "stdout", "stderr" or "error"."""
    for output in cell["outputs"]:
        if output["output_type"] == "stream":
            yield output["name"], text_of(output["text"])
        elif output["output_type"] == "error":
            yield "error", f"{output['ename']}: {output['evalue']}"
        else:
            for media, data in output["data"].items():
                yield media, text_of(data) if isinstance(data, str | list) else json.dumps(data)


def readable_outputs(cell: Cell) -> Iterator[str]:
    """Yield the outputs of a code cell that a reader sees as text (pictures and embedded views are left out)."""
    for kind, text in outputs(cell):
        if not kind.startswith(("image/", "application/")):
            yield re.sub(r"(?s)<iframe.*?</iframe>", "", text)


def prose(cell: Cell) -> str:
    """Return a text cell without code blocks, code spans, formulas, comments, tags and link targets."""
    text = re.sub(r"(?ms)^```.*?^```|<!--.*?-->|\$\$.*?\$\$", " ", source(cell))
    text = re.sub(r"`[^`\n]*`|\$[^$\n]+\$|</?\w[^>]*>", " ", text)
    return re.sub(r"\]\([^)]*\)", "]", text)


def tags(cell: Cell) -> set[str]:
    """Return the tags of a cell."""
    return set(cell["metadata"].get("tags", []))


# ------------------------------------------------------------------------------------------------- the outline


def outline() -> dict[str, str]:
    """Map every number of the course's outline to its heading, in order: "5.1.1" to "5.1.1 Tokenisation · 分词"."""
    with (ROOT / "data" / "outline.tsv").open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {row["number"]: f"{row['number']} {row['title_en']} · {row['title_zh']}" for row in rows}


def expected_headings(number: str) -> list[str]:
    """Return the headings that the notebook with this number must have, in order.

    The title is a first-level heading, the sections below it are second-level; the first notebook of a chapter opens
    with the chapter's own line.
    """
    entries = outline()
    if number == "0":
        return []
    chapter, _, part = number.partition(".")
    opening = [f"# {entries[chapter]}"] if part in ("", "1") else []
    title = [f"# {entries[number]}"] if part else []
    return opening + title + [f"## {entries[n]}" for n in entries if n.startswith(number + ".")]


@rule
def headings(notebook: Notebook) -> Iterator[str]:
    """Every heading of the outline is there, in order, with its English and its Chinese title."""
    text = "\n".join(re.sub(r"(?ms)^```.*?^```", "", source(cell)) for cell in notebook.markdown)
    found = re.findall(r"(?m)^#+ \d[\d.]* .*$", text)
    expected = expected_headings(notebook.number)
    for heading in expected:
        if heading not in found:
            yield f"missing heading: {heading}"
    for heading in found:
        if heading not in expected:
            yield f"heading that is not in the outline: {heading}"
    if sorted(found) == sorted(expected) and found != expected:
        yield f"headings out of order: {found}"
    if not source(notebook.content["cells"][0]).startswith("# "):
        yield "the first cell must be the title"


# ------------------------------------------------------------------------------------- executed, and compared


@rule
def executed(notebook: Notebook) -> Iterator[str]:
    """The stored outputs come from one run, top to bottom: nbval compares nothing in a cell that was never run."""
    counts = [cell["execution_count"] for cell in notebook.code]
    if counts != list(range(1, len(counts) + 1)):
        yield f"not a fresh run from top to bottom: {counts}"
    if not counts:
        yield "no code at all"


@rule
def no_errors(notebook: Notebook) -> Iterator[str]:
    """No stored output is an error; a cell that shows one catches it and prints it."""
    for cell in notebook.code:
        for kind, text in outputs(cell):
            if kind == "error":
                yield f"{where(cell)} ends with {text}"


UNCOMPARED = {"nbval-ignore-output", "nbval-skip"}


def is_compared(cell: Cell) -> bool:
    """Say whether nbval compares the outputs of a code cell."""
    return not UNCOMPARED & tags(cell)


@rule
def compared(notebook: Notebook) -> Iterator[str]:
    """At least 85 % of the cells are compared, and each of the others says why not."""
    off = [cell for cell in notebook.code if not is_compared(cell)]
    if len(off) > 0.15 * len(notebook.code):
        yield f"only {1 - len(off) / len(notebook.code):.0%} of the cells are compared"
    for cell in off:
        if not re.search(r"(?m)^# not compared: \S+ \S+ \S+", source(cell)):
            yield f"{where(cell)} needs a comment «# not compared: the reason»"
    for cell in notebook.code:
        if "NBVAL_" in source(cell):
            yield f"{where(cell)}: use the tag nbval-ignore-output, not a comment"


# ------------------------------------------------------------------------------------------------ sizes of things


@rule
def cell_length(notebook: Notebook) -> Iterator[str]:
    """A code cell has at most 25 lines, or says why it is longer."""
    for cell in notebook.code:
        lines = len(source(cell).splitlines())
        if lines > 25 and not re.search(r"(?m)^# long cell: \S+ \S+ \S+", source(cell)):
            yield f"{where(cell)} has {lines} lines: split it, or say why in a comment «# long cell: the reason»"


def words(cell: Cell) -> int:
    """Count the words of a text cell."""
    return len(re.findall(r"\w+", prose(cell)))


@rule
def word_count(notebook: Notebook) -> Iterator[str]:
    """A notebook can be read in one sitting: at most 6,000 words."""
    count = sum(map(words, notebook.markdown))
    if count > 6_000:
        yield f"{count} words"


@rule
def file_size(notebook: Notebook) -> Iterator[str]:
    """24 notebooks and their history must fit into a small repository: 1.5 MB each, 300 kB an output."""
    size = len(json.dumps(notebook.content, ensure_ascii=False).encode())
    if size > 1_500_000:
        yield f"the notebook is {size / 1e6:.1f} MB"
    for cell in notebook.code:
        for kind, text in outputs(cell):
            if len(text.encode()) > 300_000:
                yield f"{where(cell)}: an output ({kind}) of {len(text.encode()) / 1e3:.0f} kB"


# ----------------------------------------------------------------------------------------------------- exercises

EXERCISE = re.compile(
    r"### Exercise (?P<number>[\d.]+)-(?P<letter>[a-z]) · (?P<title>[^·\n]+) · (●○○|●●○|●●●) · \d+ min · \d+ points?"
)


@rule
def exercises(notebook: Notebook) -> Iterator[str]:
    """At least four exercises, each of three cells: the task with three hints, a stub with solution, a test."""
    cells = notebook.content["cells"]
    tasks = [i for i, c in enumerate(cells) if c["cell_type"] == "markdown" and source(c).startswith("### Exercise")]
    if len(tasks) < 4:
        yield f"{len(tasks)} exercises; at least 4 are wanted"
    for letter, i in zip("abcdefghijklmnopqrstuvwxyz", tasks, strict=False):
        task = cells[i]
        heading = source(task).split("\n")[0]
        match = EXERCISE.fullmatch(heading)
        if not match:
            yield f"«{heading}» is not of the form «### Exercise 5.1-a · Title · ●●○ · 15 min · 3 points»"
        elif (match["number"], match["letter"]) != (notebook.number, letter):
            yield f"«{heading}» should be number {notebook.number}-{letter}"
        if source(task).count("<details>") < 3:
            yield f"«{heading}» has fewer than three hints in <details>"
        following = cells[i + 1 : i + 3]
        if [cell["cell_type"] for cell in following] != ["code", "code"]:
            yield f"«{heading}» must be followed by a solution cell and a test cell"
            continue
        solution, test = map(source, following)
        if not re.search(r"(?ms)^ *### BEGIN SOLUTION\n.*\S.*^ *### END SOLUTION", solution):
            yield f"«{heading}»: its first cell has no ### BEGIN SOLUTION … ### END SOLUTION"
        wanted = f'check("{match["number"]}-{match["letter"]}", ' if match else "check("
        if "SOLUTION" in test or wanted not in test:
            yield f"«{heading}»: its second cell must test the solution with {wanted}…)"
        for cell, tag in zip(following, ("exercise-solution", "exercise-test"), strict=True):
            if tag not in tags(cell):
                yield f"«{heading}»: {where(cell)} needs the tag {tag}"


# ------------------------------------------------------------------------------- what a stored notebook must not hold


@rule
def text_alternatives(notebook: Notebook) -> Iterator[str]:
    """Every picture has a text alternative: a plot by `viz.plots.show`, an image in the text by its own."""
    for cell in notebook.code:
        for output in cell["outputs"]:
            for media in [m for m in output.get("data", {}) if m.startswith("image/")]:
                if len(output["metadata"].get(media, {}).get("alt", "")) < 20:
                    yield f"{where(cell)}: a picture without text; use show(figure, alt)"
    for cell in notebook.markdown:
        if re.search(r"!\[\s*\]\(", source(cell)):
            yield f"{where(cell)}: an image ![](…) without text"
        for image in re.findall(r"<img[^>]*>", source(cell)):
            if not re.search(r"alt=[\"'][^\"']+", image):
                yield f"{where(cell)}: {image} without alt"


# What must not stand in a stored output, and why.
UNSTABLE = {
    "an object's address": r"\b0x[0-9a-fA-F]{6,}",
    "an object without a readable form": r"<[\w.]+ object at|<Figure size|<function |<generator ",
    "a progress bar": r"\d+%\|| ?\d+(\.\d+)?(it/s|s/it)|━{5}",
    "a warning": r"\b\w*Warning: ",
    "a running time": r"Wall time|CPU times|\b\d+\.\d+ ?(ms|µs|us|s|secs?|seconds)\b|\b\d+ ?(ms|µs|us)\b",
}
ABSOLUTE_PATH = re.compile(
    r"(?<![\w./~>-])/(home|Users|root|tmp|usr|opt|var|mnt|private|work|etc|workspace)/\w|\b[A-Z]:\\{1,2}Users"
)
LOADED_FROM_ELSEWHERE = re.compile(
    r"<(script|link|img|iframe)\b[^>]*\b(src|href)\s*=\s*[\\\"']*(https?:)?//"
    r"|!\[[^\]]*\]\(https?:|\bcdn[\w-]*\.\w|unpkg\.com|jsdelivr|\bimport\b.* from [\"']https?:"
)


@rule
def stable_outputs(notebook: Notebook) -> Iterator[str]:
    """No addresses, bars, warnings or running times; a cell that must print a time is not compared."""
    for cell in notebook.code:
        for kind, text in outputs(cell):
            if kind == "stderr":
                yield f"{where(cell)} writes to stderr: {text[:80]!r}"
        for text in readable_outputs(cell):
            for what, pattern in UNSTABLE.items():
                match = re.search(pattern, text)
                if match and (what != "a running time" or is_compared(cell)):
                    yield f"{where(cell)} prints {what}: {match[0]!r}"


@rule
def no_widget_state(notebook: Notebook) -> Iterator[str]:
    """No widget state and no random model ids: JupyterLab would say "model not found" when the notebook is reopened."""
    if "widgets" in notebook.content["metadata"]:
        yield "the metadata hold widget state"
    for cell in notebook.code:
        if any("jupyter.widget" in kind for kind, _ in outputs(cell)):
            yield f"{where(cell)} stores a widget's id"


@rule
def self_contained(notebook: Notebook) -> Iterator[str]:
    """Nothing is loaded from another computer, and nothing names a folder of the computer it was run on."""
    for cell in notebook.content["cells"]:
        texts = [source(cell)]
        if cell["cell_type"] == "code":
            texts += [text for kind, text in outputs(cell) if not kind.startswith("image/")]
        for text in map(html.unescape, texts):  # a view inside a frame is escaped
            if match := LOADED_FROM_ELSEWHERE.search(text):
                yield f"{where(cell)} loads {match[0]!r}"
            if match := ABSOLUTE_PATH.search(text):
                yield f"{where(cell)} names the path {match[0]!r}"


@rule
def no_torchtext(notebook: Notebook) -> Iterator[str]:
    """The package torchtext is no longer maintained and breaks with every release of PyTorch."""  # fault 3
    for cell in notebook.code:
        if "torchtext" in source(cell):
            yield f"{where(cell)} uses torchtext"


@rule
def standard_metadata(notebook: Notebook) -> Iterator[str]:
    """The kernel is the plain python3 of whatever environment opens the notebook."""
    if notebook.content["metadata"] != METADATA:
        yield "the metadata are not the standard ones: run it with notebook_tools.py"


NUMBER = re.compile(r"(?<![\w.,/–-])\d+\.\d+(?![\w.]*\d)|(?<![\w.,/–-])\d+(?:\.\d+)?(?= ?%)")
REFERENCE = re.compile(
    r"(?i)(sections?|notebooks?|chapters?|exercises?|equations?|eq\.|tables?|figures?|python|versions?|§)"
    r" ?([\d.]+(,| and| to|–| or) ?)*$"
)
CITATION = re.compile(r"\b(19|20)\d\d\b")


@rule
def prose_numbers(notebook: Notebook) -> Iterator[str]:  # fault 20
    """Every decimal and percentage in the text occurs in the code or in an output of the same notebook.

    Not looked at: headings, formulas, code, references such as "section 5.1", and paragraphs that cite a work with its
    year, whose numbers come from there.
    """
    shown = [source(cell) for cell in notebook.code] + [t for cell in notebook.code for t in readable_outputs(cell)]
    known = {float(number) for number in re.findall(r"\d+(?:\.\d+)?", "\n".join(shown).replace(",", ""))}
    for cell in notebook.markdown:
        for paragraph in re.split(r"\n\s*\n", prose(cell)):
            text = "\n".join(line for line in paragraph.split("\n") if not line.startswith("#"))
            if CITATION.search(text):
                continue
            for match in NUMBER.finditer(text):
                value = float(match[0])
                as_a_share = text[match.end() :].lstrip().startswith("%") and round(value / 100, 6) in known
                if value not in known and not as_a_share and not REFERENCE.search(text[: match.start()]):
                    yield f"{where(cell)}: no cell shows the number {match[0]} (a reference reads «section {match[0]}»)"


# ------------------------------------------------------------------------------------------------- running, editing


def lint(path: Path) -> list[str]:
    """Apply every rule to a notebook and return what was found, one line each."""
    notebook = Notebook.read(path)
    return [f"{notebook.name}: {name}: {problem}" for name, check in RULES.items() for problem in check(notebook)]


def summary(path: Path) -> str:
    """Say how long a notebook is; 8 to 16 words of text per line of code are wanted."""
    notebook = Notebook.read(path)
    lines = sum(len(source(cell).splitlines()) for cell in notebook.code)
    count = sum(map(words, notebook.markdown))
    share = sum(map(is_compared, notebook.code)) / max(1, len(notebook.code))
    return (
        f"{notebook.name}: {count:,} words, {len(notebook.code)} code cells, {lines} lines, "
        f"{count / max(1, lines):.1f} words per line, {share:.0%} compared"
    )


def tidy(notebook: Any) -> None:
    """Drop what differs from run to run, and give every cell an id that depends on its text alone."""
    notebook.metadata.clear()
    notebook.metadata.update(METADATA)
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    seen: set[str] = set()
    for cell in notebook.cells:
        identity = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:8]
        while identity in seen:
            identity = hashlib.sha256(identity.encode()).hexdigest()[:8]
        seen.add(identity)
        cell["id"] = identity
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            # Without its state, which is not saved, a widget's id leads nowhere.
            output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)


def write(notebook: Any, path: Path) -> None:
    """Replace a notebook in one step, so that an interruption leaves the old one."""
    import nbformat

    tidy(notebook)
    nbformat.validate(notebook)
    part = path.with_suffix(".ipynb.part")
    part.write_text(nbformat.writes(notebook), encoding="utf-8", newline="\n")
    os.replace(part, path)


def run(path: Path) -> None:
    """Run a notebook in place; after an error the file is as it was, and the error is raised."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TQDM_DISABLE"] = "1"
    where_to = {"metadata": {"path": str(path.parent)}}
    NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,  # where the kernel cuts what a cell prints depends on the load of the machine
        resources=where_to,
    ).execute()
    write(notebook, path)


def to_text(path: Path) -> Path:
    """Write a notebook's cells, without outputs, as a Python file beside it."""
    import jupytext

    text = path.with_suffix(".py")
    jupytext.write(jupytext.read(path), text, fmt="py:percent")
    return text


def from_text(path: Path) -> Path:
    """Put a text form back into its notebook; code that was not edited keeps its outputs until the next run."""
    import jupytext
    import nbformat

    notebook = jupytext.read(path, fmt="py:percent")
    target = path.with_suffix(".ipynb")
    if target.exists():
        before: dict[str, list[Any]] = {}  # of cells with the same code the first keeps the first's outputs
        for cell in nbformat.read(target, as_version=4).cells:
            if cell.cell_type == "code":
                before.setdefault(cell.source, []).append(cell)
        for cell in notebook.cells:
            if cell.cell_type == "code" and before.get(cell.source):
                old = before[cell.source].pop(0)
                cell.outputs, cell.execution_count = old.outputs, old.execution_count
    write(notebook, target)
    return target


def main(arguments: list[str]) -> int:
    """Run one of the commands at the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "to-text", "from-text", "lint"])
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks (default: all)")
    options = parser.parse_args(arguments)
    suffix = "*.py" if options.command == "from-text" else "*.ipynb"
    status = 0
    for path in options.paths or sorted(NOTEBOOKS.glob(suffix)):
        if options.command == "run":
            started = time.monotonic()
            run(path)
            print(f"{path.name}: {time.monotonic() - started:.0f} s")
        elif options.command == "lint":
            problems = lint(path)
            print(*problems, summary(path), sep="\n")
            status = status or int(bool(problems))
        else:
            print({"to-text": to_text, "from-text": from_text}[options.command](path))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
