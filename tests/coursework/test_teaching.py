"""What docs/teaching.md and its JupyterHub configuration say is so."""

import re
import sys

import pytest
from traitlets.config import PyFileConfigLoader

from course_lib.coursework import box, notebooks
from tests.notebook_tools import NOTEBOOKS, ROOT

TEXT = (ROOT / "docs" / "teaching.md").read_text(encoding="utf-8")


def headings(path):
    cells = notebooks.read(path)["cells"]
    found = (notebooks.HEADING.match(notebooks.source(c)) for c in cells if c["cell_type"] == "markdown")
    return [match for match in found if match]


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_plan_has_every_notebook_with_its_minutes_and_points(path):
    number = ".".join(str(int(part)) for part in re.findall(r"\d+", path.stem)) if path.stem[:2] != "00" else "00"
    found = headings(path)
    minutes, points = (sum(int(match[key]) for match in found) for key in ("minutes", "points"))
    row = re.search(rf"(?m)^\| \d+ \| {re.escape(number)} .*$", TEXT)
    assert row and row[0].endswith(f"| {len(found)} | {minutes} | {points} |"), row


def test_the_messages_are_those_of_the_code():
    table = TEXT.split("| it says | behind it |")[1].split("\n\n")[0]
    messages = re.findall(r"(?m)^\| ([^|-]+?) \|", table)
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "course_lib" / "coursework").glob("*.py"))
    assert len(messages) >= 5
    for message in messages:
        assert message in code, message


def test_the_limits_are_those_of_the_box():
    limits = box.Limits()
    wanted = (
        f"{limits.cell_seconds:.0f} seconds a cell, ten minutes in all; {limits.memory / 2**30:.0f} GB; "
        f"{limits.processes} processes and threads; {limits.output / 1e6:.0f} MB of output a cell; "
        f"{limits.disk / 2**20:.0f} MB of disk"
    )
    assert limits.seconds == 600 and wanted in " ".join(TEXT.split())


def test_the_jupyterhub_configuration_loads(monkeypatch):
    config = PyFileConfigLoader("jupyterhub_config.py", path=str(ROOT / "docs")).load_config()
    assert config.SystemdSpawner.default_url == "/lab/tree/student/00_start_here.ipynb"
    assert config.SystemdSpawner.mem_limit == "4G" and config.Authenticator.allowed_users == set()
    calls = []
    import subprocess
    from types import SimpleNamespace

    monkeypatch.setattr(subprocess, "run", lambda command, check: calls.append(command))
    pwd = SimpleNamespace(getpwnam=lambda name: SimpleNamespace(pw_dir=f"/people/{name}"))
    monkeypatch.setitem(sys.modules, "pwd", pwd)
    config.SystemdSpawner.pre_spawn_hook(SimpleNamespace(user=SimpleNamespace(name="kim")))
    assert calls[0][:4] == ["runuser", "-u", "kim", "--"] and calls[0][-1] == "/people/kim/student"
