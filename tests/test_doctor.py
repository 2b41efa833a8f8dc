"""The doctor: every check can fail, and then says how to mend it."""

import builtins
import importlib.metadata
import shutil
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from course_lib import doctor
from course_lib.viz import plots


def test_this_environment_is_ready():
    for one in doctor.check():
        assert one.ok or one.name in ("memory", "cores", "disk"), f"{one.name}: {one.found}"


def no_torch(name, *arguments, real=builtins.__import__):
    if name == "torch":
        raise ImportError("DLL load failed")
    return real(name, *arguments)


def unwritable(**_):
    raise PermissionError("read-only file system")


def version_of(name, real=importlib.metadata.version):
    if name == "safetensors":
        raise importlib.metadata.PackageNotFoundError(name)
    return "1.0" if name == "numpy" else real(name)


# what is broken -> the check that must notice, what it must report, and the cure it must name
BROKEN = {
    "old Python": (doctor.python, (doctor.platform, "python_version", lambda: "3.10.14"), "3.10.14", ">=3.11"),
    "packages": (
        doctor.packages, (importlib.metadata, "version", version_of), "numpy is 1.0, needed is >=", "pip install -e .",
    ),
    "package missing": (
        doctor.packages, (importlib.metadata, "version", version_of), "safetensors is missing", "course.py lab",
    ),
    "torch import": (doctor.torch_works, (builtins, "__import__", no_torch), "DLL load failed", "reinstall"),
    "torch values": (
        doctor.torch_works, (torch.Tensor, "__matmul__", lambda a, b: a * 0),
        torch.__version__, "wrong values",
    ),
    "memory": (
        doctor.memory, (psutil, "virtual_memory", lambda: SimpleNamespace(available=doctor.MEMORY - 1)),
        "2.0 GB free", "close other programs",
    ),
    "cores": (doctor.cores, (doctor.os, "sched_getaffinity", lambda _: {0}), "1", "twice the time"),
    "disk": (
        doctor.disk, (shutil, "disk_usage", lambda _: SimpleNamespace(free=5 * 2**20)),
        "0.0 GB free", "free some space",
    ),
    "write": (doctor.write_access, (doctor.tempfile, "TemporaryFile", unwritable), "read-only", "folder of your own"),
    "no font": (doctor.chinese_glyphs, (plots.importlib.util, "find_spec", lambda _: None), "no font", "mplfonts"),
    "wrong font": (
        doctor.chinese_glyphs,
        (plots, "chinese_font", lambda: plots.Path(plots.mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"),
        "DejaVuSans.ttf", "注 意 力 词",
    ),
    "widgets": (doctor.widgets, ("jupyter_core.paths.jupyter_path", lambda _: []), "missing", "jupyterlab_widgets"),
}  # fmt: skip  # fault 29: widgets


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_noticed_and_its_cure_named(fault, monkeypatch):
    look, (*target, fake), found, cure = BROKEN[fault]
    monkeypatch.setattr(*target, fake, raising=fault != "cores")
    one = look()
    monkeypatch.undo()
    assert not one.ok
    assert found in one.found
    assert cure in one.cure
    text = doctor.report([one], details=False)
    assert one.cure in text and "1 of 1 checks need attention" in text


def test_the_notebook_form_is_the_same_on_every_computer():
    here = doctor.Check("memory", "3.1 GB free")
    there = doctor.Check("memory", "12.9 GB free")
    assert doctor.report([here], details=False) == doctor.report([there], details=False)
    assert "everything is ready" in doctor.report([here], details=False)
    assert "3.1 GB free" in doctor.report([here])


def command(*arguments):
    run = [sys.executable, "-m", "course_lib", *arguments]
    return subprocess.run(run, capture_output=True, text=True, encoding="utf-8")


def test_the_command_prints_the_report_and_its_status_says_whether_all_is_well():
    run = command("doctor")
    assert "PyTorch" in run.stdout
    assert run.returncode == (0 if "everything is ready" in run.stdout else 1)


def test_an_unknown_command_prints_the_usage():
    assert command("docter").returncode == 2
    assert "doctor" in command("docter").stderr
    assert command("--help").returncode == 0


def test_importing_the_library_costs_nothing():
    """`import course_lib` must load neither torch nor NumPy: it takes a millisecond, not a second."""
    code = "import sys, course_lib; print(sorted({'torch', 'numpy', 'matplotlib'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
