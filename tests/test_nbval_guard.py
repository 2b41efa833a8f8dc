"""The comparison of notebooks can fail: a wrong number in a stored output is found, and the network is cut off."""

import re
import subprocess
import sys

import nbformat

import course

PICTURE = """from IPython.display import display
display({"image/png": "iVBORw0KGgo=", "text/plain": "The loss falls."}, raw=True)"""
ONLINE = """import urllib.request
try:
    urllib.request.urlopen("https://example.org", timeout=1)
except OSError as error:
    print("the tests run offline" in str(error))"""

# name: (a cell's code, its stored output, whether the comparison must accept it)
CELLS = {
    "right": ("print(2 + 2)", "4\n", True),
    "wrong in the last digit": ("print(f'{2 / 3:.3f}')", "0.666\n", False),
    "wrong text beside a picture": (PICTURE, "The loss rises.", False),
    "right text beside a picture": (PICTURE, "The loss falls.", True),
    "wrong duration": ("print('5.3 s')", "5.4 s\n", False),
    "nothing stored": ("print('more')", "", False),
    "an object's address": ("print(object())", "<object object at 0x7f2b8c0d1e50>\n", True),
    "the network is cut off": (ONLINE, "True\n", True),
}


def test_a_wrong_output_is_found_and_a_right_one_accepted(tmp_path):
    """Run `make test`'s comparison on a notebook of these cells."""
    cells = []
    for number, (source, stored, _) in enumerate(CELLS.values(), 1):
        if source == PICTURE:
            data = {"image/png": "AAAA", "text/plain": stored}  # another picture: pixels are not compared
            outputs = [nbformat.v4.new_output("display_data", data)]
        else:
            outputs = [nbformat.v4.new_output("stream", name="stdout", text=stored)] if stored else []
        cells.append(nbformat.v4.new_code_cell(source, execution_count=number, outputs=outputs))
    path = tmp_path / "cells.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *course.COMPARE, str(path)]
    run = subprocess.run(command, cwd=course.ROOT, capture_output=True, text=True, encoding="utf-8")
    verdicts = re.findall(r"(?m)^(PASSED|FAILED) .*Cell (\d+)", run.stdout)
    names = list(CELLS)
    accepted = {names[int(number)]: verdict == "PASSED" for verdict, number in verdicts}
    assert accepted == {name: accept for name, (_, _, accept) in CELLS.items()}, run.stdout + run.stderr
