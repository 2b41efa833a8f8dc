"""Is this computer ready for the course?  Each check that fails says how to mend it.

``python -m course_lib doctor`` prints what was found; notebook 00 prints the same without the parts that differ from
computer to computer.
"""

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GIB = 2**30
MEMORY, DISK, CORES = 2 * GIB, 1 * GIB, 2


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found and, if that is not enough, the cure (else ``""``)."""

    name: str
    found: str
    cure: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing needs to be done."""
        return not self.cure


def python() -> Check:
    """The Python version is one the package supports."""
    from packaging.specifiers import SpecifierSet

    supported = SpecifierSet(importlib.metadata.metadata("transformer-course")["Requires-Python"])
    cure = f"install Python {supported}, delete the folder .venv and run `python course.py lab` again"
    found = platform.python_version()
    return Check("Python", found, "" if supported.contains(found, prereleases=True) else cure)


def packages() -> Check:
    """Every package that the course needs is there, in a version it supports."""
    from packaging.requirements import Requirement

    needed = [Requirement(text) for text in importlib.metadata.requires("transformer-course") or ()]
    needed = [r for r in needed if r.marker is None or r.marker.evaluate({"extra": ""})]
    wrong = []
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            wrong.append(f"{requirement.name} is {version}, needed is {requirement.specifier}")
    cure = "run `python course.py lab` again, or `pip install -e .` in this environment" if wrong else ""
    return Check("packages", "; ".join(wrong) or f"all {len(needed)}", cure)


def torch_works() -> Check:
    """PyTorch multiplies and differentiates."""
    try:
        import torch

        x = torch.arange(6.0).reshape(2, 3).requires_grad_()
        (x @ x.T).sum().backward()
        right = x.grad is not None and x.grad.tolist() == [[6.0, 10.0, 14.0], [6.0, 10.0, 14.0]]
    except (ImportError, OSError, RuntimeError) as error:  # a broken install fails in any of these ways
        return Check(
            "PyTorch", f"{type(error).__name__}: {error}", "reinstall it: `pip install --force-reinstall torch`"
        )
    cure = "" if right else "it computes wrong values here: reinstall it or try another computer"
    return Check("PyTorch", torch.__version__, cure)


def memory() -> Check:
    """Enough memory is free for the largest notebook."""
    import psutil

    free = psutil.virtual_memory().available
    cure = f"close other programs: a notebook needs up to {MEMORY / GIB:.0f} GB"
    return Check("memory", f"{free / GIB:.1f} GB free", "" if free >= MEMORY else cure)


def cores() -> Check:
    """Two processor cores: the times that the notebooks state are for two."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cure = "the course runs, but cells may take twice the time they state"
    return Check("cores", str(count), "" if count >= CORES else cure)


def disk() -> Check:
    """Room for data and checkpoints."""
    free = shutil.disk_usage(ROOT).free
    cure = f"free some space on the disk that holds {ROOT}: {DISK / GIB:.0f} GB is needed"
    return Check("disk", f"{free / GIB:.1f} GB free", "" if free >= DISK else cure)


def write_access() -> Check:
    """The course's folder can be written to."""
    try:
        with tempfile.TemporaryFile(dir=ROOT) as file:
            file.write(b"written")
    except OSError as error:
        return Check("write access", str(error), f"copy the course to a folder of your own; {ROOT} cannot be written")
    return Check("write access", str(ROOT))


def chinese_glyphs() -> Check:
    """Plots can show Chinese."""
    from matplotlib.ft2font import FT2Font

    from course_lib.viz.plots import chinese_font

    try:
        font = chinese_font()
    except FileNotFoundError as error:
        return Check("Chinese glyphs", "no font", str(error))
    missing = [character for character in "注意力词，。" if not FT2Font(str(font)).get_char_index(ord(character))]
    cure = f"the font lacks {' '.join(missing)}: `pip install --force-reinstall mplfonts`" if missing else ""
    return Check("Chinese glyphs", font.name, cure)


def widgets() -> Check:
    """JupyterLab has the extension that draws sliders and buttons."""
    from jupyter_core.paths import jupyter_path

    folders = [Path(p) / "@jupyter-widgets" / "jupyterlab-manager" for p in jupyter_path("labextensions")]
    found = any(folder.is_dir() for folder in folders)
    cure = "run `pip install --force-reinstall ipywidgets jupyterlab_widgets` and restart JupyterLab"
    return Check("widgets", "extension found" if found else "extension missing", "" if found else cure)


CHECKS: tuple[Callable[[], Check], ...] = (
    python, packages, torch_works, memory, cores, disk, write_access, chinese_glyphs, widgets,
)  # fmt: skip


def check() -> list[Check]:
    """Run every check, always in the same order."""
    return [one() for one in CHECKS]


def report(checks: Sequence[Check], details: bool = True) -> str:
    """Write the checks as a table, one line each.

    Args:
        checks: what ``check`` returned.
        details: whether to say what was found (versions, sizes), which differs from computer to computer.
    """
    width = max(len(one.name) for one in checks)
    lines = []
    for one in checks:
        found = f"  {one.found}" if details or not one.ok else ""
        lines.append(f"{one.name:<{width}}  {'ok' if one.ok else '!!'}{found}")
        if not one.ok:
            lines.append(f"{'':<{width}}  →   {one.cure}")
    bad = sum(not one.ok for one in checks)
    lines.append("everything is ready" if not bad else f"{bad} of {len(checks)} checks need attention")
    return "\n".join(lines)


def main() -> int:
    """Print the report; the exit status is 1 if anything needs attention."""
    checks = check()
    print(f"{platform.platform()}, Python at {sys.executable}")
    print(report(checks))
    return 0 if all(one.ok for one in checks) else 1
