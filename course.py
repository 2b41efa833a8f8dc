"""Start the course, or test it, from nothing but Python 3.11 or newer.

    python course.py lab  [options for JupyterLab]    make the environment and open the first notebook
    python course.py test                             make the environment and run everything that CI runs
    python course.py test [options for pytest]        run only the tests that these options choose

The environment is the folder .venv beside this file. It is made on the first call and brought up to date when
pyproject.toml or requirements.lock change; deleting it is always safe. In a Python that already has the course
installed (a conda environment, say), that one is used instead.
"""

from __future__ import annotations  # so that an old Python gets as far as being told that it is too old

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
VENV_PYTHON = str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
STAMP = VENV / "course-installed"  # written last: it says that this environment is complete, and for which versions
OLDEST, NEWEST = (3, 11), (3, 14)  # the Pythons that requirements.lock was resolved for
INTERRUPTED = 130  # the exit status of a command ended by Ctrl-C
ROOM = 4 * 10**9  # bytes of disk that a new environment needs
EDITIONS = ("student", "notebooks")  # yours to write into, made from the reference edition
# pytest options that run a notebook's cells again and compare what they print with what is stored
COMPARE = ["--nbval", "--nbval-current-env", "--nbval-sanitize-with", "tests/nbval.cfg", "--nbval-cell-timeout", "120"]
LAB_SETTINGS = {
    "@jupyterlab/docmanager-extension:plugin": {"defaultViewers": {"markdown": "Markdown Preview"}},
    "@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False},
}


def say(text: str) -> None:
    """Tell the reader what happens now."""
    print(f"\n>> {text}", flush=True)


def shown(command: list[str]) -> str:
    """Write a command as a person would type it."""
    return subprocess.list2cmdline(command) if os.name == "nt" else shlex.join(command)


# ---------------------------------------------------------------------------------------------- the environment


def unsuitable() -> str:
    """Why this Python cannot run the course and what to do about it, or "" if it can."""
    version = platform.python_version()
    if sys.version_info[:2] < OLDEST:
        return (
            f"The course needs Python {OLDEST[0]}.{OLDEST[1]} or newer; this is {version} ({sys.executable}).\n"
            "Install a newer one from https://www.python.org/downloads/ and call this file with it."
        )
    if sys.maxsize < 2**32:
        return f"This is a 32-bit Python ({sys.executable}), for which there is no PyTorch: install a 64-bit one."
    if sys.platform == "darwin" and platform.machine() == "x86_64":
        return (
            "PyTorch no longer supports Macs with an Intel processor, so the course cannot run here.\n"
            "On a Mac with an M1 or later you are using a Python for Intel: install one for Apple silicon.\n"
            "On an Intel Mac use the course on another computer or in a hosted notebook service."
        )
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        return (
            f"This Python ({sys.executable}) cannot make virtual environments.\n"
            "On Debian and Ubuntu: sudo apt install python3-venv     Then repeat the command."
        )
    return ""


def has_course(folder: str) -> bool:
    """Whether the course is installed in a folder of packages (the metadata in this folder do not count)."""
    return any(d.metadata["Name"] == "transformer-course" for d in importlib.metadata.distributions(path=[folder]))


def fingerprint() -> str:
    """What an installed environment depends on: the wanted packages, and where this folder and Python are."""
    parts = [(ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "requirements.lock")]
    return hashlib.sha256("\0".join([*parts, str(ROOT), sys.version]).encode()).hexdigest()


def make_venv() -> None:
    """Make an empty .venv, unless there is one whose Python still works."""
    if Path(VENV_PYTHON).exists() and subprocess.call([VENV_PYTHON, "-c", "import pip"]) == 0:
        return
    if shutil.disk_usage(ROOT).free < ROOM:
        sys.exit(f"The disk of {ROOT} has less than {ROOM / 1e9:.0f} GB free, which the environment needs: free some.")
    say(f"Making a Python environment in {VENV} (Python {platform.python_version()})")
    if subprocess.call([sys.executable, "-m", "venv", "--clear", str(VENV)]):
        sys.exit(f"Could not make the environment; the lines above say why. Then repeat: {shown(sys.orig_argv)}")


def warn_about_cuda() -> None:
    """On Linux pip takes the PyTorch for NVIDIA cards, which is far larger: say so before the download."""
    if sys.platform != "linux" or platform.machine() != "x86_64" or shutil.which("nvidia-smi"):
        return
    say(
        "No NVIDIA card was found, yet on Linux pip normally installs the PyTorch for such cards: about 3 GB to\n"
        "   download, 7 GB on disk. It works without a card, too. For the small one see README.md, «PyTorch without\n"
        "   a graphics card»: one command, to be run before this one."
    )
    if sys.stdin.isatty():
        try:
            input("   Press Enter to go on, Ctrl-C to stop. ")
        except KeyboardInterrupt:
            sys.exit("\nNothing was installed.")


def install() -> None:
    """Install the course and the tested versions of its packages into .venv."""
    site_packages = next(iter(VENV.glob("lib/python*/site-packages")), VENV / "Lib" / "site-packages")
    constraints = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    if any(site_packages.glob("torch-*.dist-info")):  # a build that the reader chose stays
        constraints = [line for line in constraints if not line.startswith("torch==")]
    else:
        warn_about_cuda()
    tested = VENV / "constraints.txt"
    tested.write_text("\n".join(constraints) + "\n", encoding="utf-8")
    say("Installing the packages: 2 to 10 minutes the first time, depending on the connection. Later starts skip this.")
    command = [VENV_PYTHON, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--constraint", str(tested), "--editable", ".[test]"]
    STAMP.unlink(missing_ok=True)
    started = time.monotonic()
    if subprocess.call(command, cwd=ROOT):
        sys.exit(
            "\nThe installation did not finish. The last lines above say why: no connection, a full disk, or no\n"
            f"package for this Python (locked are {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}).\n"
            f"When that is mended, repeat: {shown(sys.orig_argv)}"
        )
    STAMP.write_text(fingerprint(), encoding="utf-8")
    say(f"Installed in {(time.monotonic() - started) / 60:.1f} minutes")


def environment() -> str:
    """The Python that runs the course, with everything installed."""
    if Path(sys.prefix) != VENV and has_course(sysconfig.get_path("purelib")):
        say(f"Using the environment that this Python belongs to: {sys.prefix}")
        return sys.executable
    if reason := unsuitable():
        sys.exit(reason)
    make_venv()
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") != fingerprint():
        install()
    return VENV_PYTHON


# --------------------------------------------------------------------------------------------------- the commands


def call(command: list[str]) -> int:
    """Run a command in this folder, with one thread for arithmetic: the fastest for models as small as ours."""
    variables = {"OMP_NUM_THREADS": "1", **os.environ}
    try:
        return subprocess.call(command, cwd=ROOT, env=variables)
    except KeyboardInterrupt:
        return INTERRUPTED


def lab(python: str, options: list[str]) -> int:
    """Open JupyterLab on the first notebook of the reader's own edition; the reference lies beside it."""
    prefix = VENV if python == VENV_PYTHON else Path(sys.prefix)
    settings = prefix / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(LAB_SETTINGS, indent=1), encoding="utf-8")
    released = call([python, "-m", "course_lib", "coursework", "release", EDITIONS[0]]) == 0
    first_page = f"{EDITIONS[0] if released else EDITIONS[1]}/00_start_here.ipynb"  # a broken notebook was named above
    notebooks = [str(path) for edition in EDITIONS for path in (ROOT / edition).glob("*.ipynb")]
    if notebooks:  # one that is not trusted does not show its interactive views; done while JupyterLab starts
        subprocess.Popen([python, "-m", "nbformat.sign", *notebooks], stdout=subprocess.DEVNULL)
    say(f"Starting JupyterLab on {first_page}: it opens in the browser in a few seconds. Ctrl-C here ends it.")
    where = [f"--ServerApp.root_dir={ROOT}", f"--LabApp.default_url=/lab/tree/{first_page}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        where.append("--allow-root")  # in a container one often is root; without it the server refuses to start
    return call([python, "-m", "jupyterlab", *where, *options])


def test(python: str, options: list[str]) -> int:
    """Run every check, go on after a failure, and end with a table of results and times."""
    pytest = [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile"]
    if options:
        return call([*pytest, *options])
    # Tests of one file share what is slow to make, a server or a class of students; so do the cells of a notebook.
    steps = {
        "lint": [python, "-m", "ruff", "check", "."],
        "format": [python, "-m", "ruff", "format", "--check", "."],
        "types": [python, "-m", "mypy"],
        "tests": [*pytest, "tests"],
        "notebooks run again and compared": [*pytest, *COMPARE, "notebooks"],
    }
    rows, failed = [], False
    for name, command in steps.items():
        if "notebooks" in command and not any((ROOT / "notebooks").glob("*.ipynb")):
            rows.append(f"   none yet          {name}")
            continue
        say(f"{name}: {shown(command)}")
        started = time.monotonic()
        status = call(command)
        failed = failed or status != 0
        rows.append(f"   {'ok    ' if status == 0 else 'FAILED'} {(time.monotonic() - started) / 60:5.1f} min  {name}")
        if status == INTERRUPTED:
            break
    say("\n".join(["Results", *rows]))
    return int(failed)


def main(arguments: list[str]) -> int:
    """Run one of the two commands and return its exit status."""
    commands = {"lab": lab, "test": test}
    if not arguments or arguments[0] not in commands:
        print(__doc__)
        return 2
    return commands[arguments[0]](environment(), arguments[1:])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
