"""Rules that every notebook keeps, a notebook that breaks each of them, and the tools that run and edit notebooks."""

import copy
import json
import re

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from tests import notebook_tools as tools

NOTEBOOKS = sorted(tools.NOTEBOOKS.glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_every_rule(path):
    assert tools.lint(path) == []


# --------------------------------------------------------------- a notebook that keeps the rules, made here in code


def text(source, **metadata):
    return {"cell_type": "markdown", "id": "x", "metadata": metadata, "source": source}


def code(source, *outputs, **metadata):
    return {
        "cell_type": "code", "id": "x", "metadata": metadata, "source": source, "outputs": list(outputs),
        "execution_count": None,
    }  # fmt: skip


def printed(words, name="stdout"):
    return {"output_type": "stream", "name": name, "text": words}


def displayed(data, metadata=None):
    return {"output_type": "display_data", "data": data, "metadata": metadata or {}}


HINT = "<details><summary>Hint</summary>Count.</details>"


def exercise(letter):
    stub = "def count(line: str) -> int:\n    ### BEGIN SOLUTION\n    return len(line.split())\n    ### END SOLUTION"
    return [
        text(f"### Exercise 5.1-{letter} · Counting · ●●○ · 15 min · 3 points\nCount the words.\n{HINT * 3}"),
        code(stub, tags=["exercise-solution"]),
        code(f'check("5.1-{letter}", count)', tags=["exercise-test"]),
    ]


def good(name="05_1_preprocessing"):
    picture = displayed(
        {"image/png": "iVBORw0=", "text/plain": "A line that rises from 0 to 1."},
        {"image/png": {"alt": "A line that rises from 0 to 1."}},
    )
    cells = [
        text("# 5 The project: code, explained in detail · 项目实践：代码实例和详细解释说明"),
        text("# 5.1 Preprocessing the data · 数据预处理"),
        text("## 5.1.1 Tokenisation · 分词\nThe model reaches BLEU 71.3; 94 % of the words are known (section 5.2)."),
        code("print(f'BLEU {score:.1f}, known {share}')", printed("BLEU 71.3, known 0.94\n")),
        text("## 5.1.2 Building the vocabulary · 构建词表\nVaswani et al. (2017) report 28.4 on another corpus."),
        code("show(lines(curve), 'A line that rises from 0 to 1.')", picture),
        text("## 5.1.3 Representing the dataset · 数据集的表示\n```\n# 7.7 is code\n```\nAs are `8.8` and $9.9$."),
        *exercise("a"), *exercise("b"), *exercise("c"), *exercise("d"),
    ]  # fmt: skip
    for number, cell in enumerate([c for c in cells if c["cell_type"] == "code"], 1):
        cell["execution_count"] = number
    content = {"cells": cells, "metadata": copy.deepcopy(tools.METADATA), "nbformat": 4, "nbformat_minor": 5}
    return tools.Notebook(name, content)


def test_a_good_notebook_passes():
    assert [problem for check in tools.RULES.values() for problem in check(good())] == []


# ---------------------------------------------------------------- for each rule, ways to break it (cell 3 is code)


def edit(number, old, new):
    def change(cells):
        assert old in cells[number]["source"]
        cells[number]["source"] = cells[number]["source"].replace(old, new)

    return change


def put(number, **values):
    return lambda cells: cells[number].update(values)


def swap(a, b):
    def change(cells):
        cells[a], cells[b] = cells[b], cells[a]

    return change


def say(words, name="stdout"):
    return put(3, outputs=[printed(words, name)])


def page(html):
    return put(3, outputs=[displayed({"text/html": html})])


BAD = {
    "headings": [
        edit(2, "## 5.1.1 Tokenisation · 分词", "Tokenisation"),
        edit(2, "分词", "词"),
        edit(2, "## 5.1.1", "### 5.1.1"),
        edit(1, "# 5.1 Pre", "# 5.1 Post"),
        edit(0, "# 5 ", "# Chapter 5 "),
        edit(6, "\n", "\n## 5.1.4 Surplus · 多余\n"),
        swap(2, 4),
        swap(0, 3),
    ],
    "executed": [
        put(3, execution_count=None),
        put(3, execution_count=2),
        lambda cells: cells[:].clear() or [c.update(cell_type="markdown") for c in cells],
    ],
    "no_errors": [
        put(3, outputs=[{"output_type": "error", "ename": "ValueError", "evalue": "too long", "traceback": []}])
    ],
    "compared": [
        put(3, metadata={"tags": ["nbval-ignore-output"]}),
        edit(3, "print", "# NBVAL_IGNORE_OUTPUT\nprint"),
        lambda cells: [c["metadata"].update(tags=["nbval-skip"]) for c in cells[-6:]],
    ],
    "cell_length": [put(3, source="x = 1\n" * 26)],
    "word_count": [put(2, source="word " * 6_001)],
    "file_size": [say("x" * 300_001), lambda cells: [c.update(source="x" * 200_000) for c in cells[:8]]],
    "exercises": [
        lambda cells: cells.__delitem__(slice(-3, None)),
        edit(7, "●●○", "hard"),
        edit(7, "5.1-a", "5.1-b"),
        edit(7, "5.1-a", "5.2-a"),
        edit(7, HINT * 3, HINT * 2),
        edit(7, "15 min · ", ""),
        edit(8, "### BEGIN SOLUTION", ""),
        edit(8, "return len(line.split())", ""),
        edit(9, "check(", "print("),
        edit(9, "5.1-a", "5.1-b"),
        put(8, metadata={}),
        put(9, metadata={"tags": ["exercise-solution"]}),
        lambda cells: cells.__delitem__(9),
        swap(8, 9),
    ],
    "text_alternatives": [
        put(5, outputs=[displayed({"image/png": "iVBORw0=", "text/plain": "<Figure>"})]),
        put(5, outputs=[displayed({"image/png": "iVBORw0="}, {"image/png": {"alt": "plot"}})]),
        edit(2, "The model", "![](attention.png) The model"),
        edit(2, "The model", '<img src="attention.png"> The model'),
    ],
    "stable_outputs": [
        say("<torch.utils.data.DataLoader object at 0x7f2b8c0d1e50>"),
        say("id 0x7f2b8c0d1e50"),
        say("<Figure size 640x480 with 1 Axes>"),
        say(" 45%|████▌     | 45/100 [00:01<00:01, 43.9it/s]"),
        say("cell.py:3: UserWarning: nested tensors"),
        say("took 1.23 s"),
        say("12 ms per batch"),
        say("Wall time: 2min"),
        say("anything", name="stderr"),
    ],
    "no_widget_state": [
        put(3, outputs=[displayed({"application/vnd.jupyter.widget-view+json": {"model_id": "0a1b"}})])
    ],
    "self_contained": [
        page('<script src="https://example.org/d3.js"></script>'),
        page('<link rel="stylesheet" href="//example.org/a.css">'),
        page("<iframe srcdoc='&lt;script src=&quot;https://example.org/d3.js&quot;&gt;'></iframe>"),
        page("loads cdnjs.cloudflare.com/d3"),
        page("import d3 from 'https://example.org/d3.js'"),
        edit(2, "The model", "![a plot](https://example.org/a.png) The model"),
        edit(3, "print", "open('/home/me/data.txt')\nprint"),
        say("saved to /tmp/checkpoint"),
        say(r"saved to C:\Users\me"),
    ],
    "no_torchtext": [edit(3, "print", "from torchtext.data import Field\nprint")],
    "standard_metadata": [],  # see below: it is not about cells
    "prose_numbers": [
        edit(2, "71.3", "71.4"),
        edit(2, "94 %", "95 %"),
        edit(2, "94 %", "94.4 %"),
        edit(2, "section 5.2", "score 5.2"),
        edit(4, "Vaswani et al. (2017) report", "We get"),
    ],
}
CASES = [(name, number) for name, changes in BAD.items() for number in range(len(changes))]


@pytest.mark.parametrize("name, number", CASES)
def test_a_rule_rejects_what_breaks_it(name, number):
    notebook = good()
    BAD[name][number](notebook.content["cells"])
    assert list(tools.RULES[name](tools.Notebook(notebook.name, notebook.content))) != []


@pytest.mark.parametrize("metadata", [{}, {**tools.METADATA, "widgets": {"state": {}}}])
def test_other_metadata_are_rejected(metadata):
    notebook = good()
    notebook.content["metadata"] = metadata
    assert list(tools.standard_metadata(notebook)) != []
    assert bool(list(tools.no_widget_state(notebook))) == ("widgets" in metadata)


def test_every_rule_has_been_seen_to_fail():
    assert BAD.keys() == tools.RULES.keys()


@pytest.mark.parametrize(
    "source, tag, rule",
    [
        ("# not compared: training differs between processors\nprint(1)", "nbval-ignore-output", "compared"),
        ("# long cell: the whole loop is shown once\n" + "x = 1\n" * 30, "", "cell_length"),
    ],
)
def test_an_exception_with_a_reason_is_allowed(source, tag, rule):
    notebook = good()
    notebook.content["cells"][3].update(source=source, metadata={"tags": [tag]})
    assert list(tools.RULES[rule](notebook)) == []


def test_the_outline_has_its_hundred_headings_and_each_belongs_to_one_notebook():
    assert len(tools.outline()) == 100
    numbers = ["1", "2.1", "2.2", "2.3", "3.1", "3.2", "3.3", "4.1", "4.2", "4.3", "5.1", "5.2", "5.3", "6.1", "6.2",
               "6.3", "7.1", "7.2", "7.3", "8.1", "8.2", "8.3", "9"]  # fmt: skip
    found = [re.sub("^#+ ", "", heading) for number in numbers for heading in tools.expected_headings(number)]
    assert found == list(tools.outline().values())


# ------------------------------------------------------------------------------------------- running and editing

LIVE = [
    "from ipywidgets import IntSlider\nfrom course_lib.viz.plots import lines, setup, show\nsetup()",
    "show(lines({'a': ([0, 1], [0, 1])}, title='up', x_label='x', y_label='y'), 'A line that rises from 0 to 1.')",
    "IntSlider(3)",
    "import torch\nprint(f'{torch.rand(1).item():.3f}')",
]


@pytest.fixture
def notebook(tmp_path):
    path = tmp_path / "05_1_live.ipynb"
    cells = [nbformat.v4.new_code_cell(source) for source in LIVE]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Live"), *cells]), path)
    return path


def test_a_run_is_repeatable_to_the_byte_and_can_be_edited_as_text(notebook):
    tools.run(notebook)
    first = notebook.read_bytes()
    tools.run(notebook)
    assert notebook.read_bytes() == first
    stored = tools.Notebook.read(notebook)
    wanted = ["executed", "no_errors", "stable_outputs", "no_widget_state", "text_alternatives", "standard_metadata"]
    assert [problem for name in wanted for problem in tools.RULES[name](stored)] == []
    assert len(stored.code[1]["outputs"]) == 2, "the picture and its caption"

    text_form = tools.to_text(notebook)
    assert tools.from_text(text_form).read_bytes() == first, "an unedited text form must give the same notebook"
    text_form.write_text(text_form.read_text(encoding="utf-8").replace("rand(1)", "rand(2)[1:]"), encoding="utf-8")
    edited = tools.Notebook.read(tools.from_text(text_form)).code
    assert edited[3]["outputs"] == [] and edited[3]["execution_count"] is None, "a stale output must not stay"
    assert edited[1] == stored.code[1]


def test_what_a_cell_prints_is_one_output_however_the_kernel_cuts_it(notebook):  # fault 36
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][1]["source"] = "import time\nprint('a', flush=True)\ntime.sleep(0.3)\nprint('b', flush=True)"
    content["cells"] = content["cells"][:2]
    notebook.write_text(json.dumps(content), encoding="utf-8")
    tools.run(notebook)
    assert [tools.text_of(output["text"]) for output in tools.Notebook.read(notebook).code[0]["outputs"]] == ["a\nb\n"]


def test_a_run_that_fails_leaves_the_notebook_as_it_was(notebook):
    content = json.loads(notebook.read_text(encoding="utf-8"))
    content["cells"][1]["source"] = "1 / 0"
    notebook.write_text(json.dumps(content), encoding="utf-8")
    before = notebook.read_bytes()
    with pytest.raises(CellExecutionError, match="ZeroDivisionError"):
        tools.run(notebook)
    assert notebook.read_bytes() == before
    assert [path.name for path in notebook.parent.iterdir()] == [notebook.name]


def test_cells_with_the_same_code_keep_their_own_outputs(notebook):
    cells = [nbformat.v4.new_code_cell(source) for source in ("n = 0", "n += 1\nprint(n)", "n += 1\nprint(n)")]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# Live"), *cells]), notebook)
    tools.run(notebook)
    first = notebook.read_bytes()
    assert tools.from_text(tools.to_text(notebook)).read_bytes() == first
