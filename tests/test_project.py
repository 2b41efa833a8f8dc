"""The files that describe the project agree, and the launcher says what is wrong and what to do."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import course
import course_lib

ROOT = course.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [Requirement(r) for r in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["test"]]
LOCK = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines())
README = (ROOT / "README.md").read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------- the files are in step


def test_the_metadata_state_ranges_and_the_lock_states_versions():  # fault 1
    """A pin in the metadata makes the package impossible to install on the next Python; the lock is only for tests."""
    for requirement in REQUIREMENTS:
        operators = {specifier.operator for specifier in requirement.specifier}
        assert operators and operators <= {">=", "!=", "<"}, (
            f"{requirement}: state a range from the oldest tested version"
        )
    for name, version in LOCK.items():
        assert re.fullmatch(r"[\d.]+(post\d+)?", version), f"{name}=={version}: a local build or pre-release"
        assert name == canonicalize_name(name) or name.lower().replace("_", "-") == canonicalize_name(name)


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=str)
def test_the_locked_version_is_in_the_range(requirement):
    locked = {canonicalize_name(name): version for name, version in LOCK.items()}
    assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need a few packages more")
def test_the_lock_names_every_package_that_is_needed():
    """Walk through what each installed package requires here; a package left out would not be the tested version."""
    seen, todo = set(), [("transformer-course", ("test",))]
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        for requirement in map(Requirement, importlib.metadata.requires(name) or ()):
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                todo.append((canonicalize_name(requirement.name), tuple(sorted(requirement.extras))))
    needed = {name for name, _ in seen} - {"transformer-course", "setuptools"}
    with_the_graphics_card = {name for name in needed if re.match("nvidia-|cuda-|triton", name)}
    assert needed - with_the_graphics_card - {canonicalize_name(name) for name in LOCK} == set()


def test_conda_pip_and_the_launcher_take_the_same_packages():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    python, pip, pip_lines = environment["dependencies"]
    assert environment["name"] == PROJECT["name"]
    assert pip == "pip"
    # the same two lines that course.py gives to pip: everything else is in pyproject.toml and the lock
    assert pip_lines == {"pip": ["--constraint requirements.lock", "--editable .[test]"]}
    major, minor = course.NEWEST
    oldest = ".".join(map(str, course.OLDEST))
    assert python == f"python >={oldest},<{major}.{minor + 1}"
    assert PROJECT["requires-python"] == f">={oldest}"


def test_the_readme_says_what_the_files_say():
    oldest, newest = (".".join(map(str, version)) for version in (course.OLDEST, course.NEWEST))
    room = f"{course.ROOM / 1e9:.0f} GB of disk"
    assert f"Python {oldest} or newer (the versions are locked for {oldest} to {newest}), {room}" in README
    assert re.findall(r"torch==([\d.]+)", README) == [LOCK["torch"]]
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert f"conda activate {environment['name']}" in README
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for command in ("lab", "test"):
        assert f"`make {command}`" in README and f"`python course.py {command}`" in README
        assert re.search(rf"(?m)^.*\b{command}\b.*:$", makefile)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_link_to_a_file_leads_somewhere(name):
    text = re.sub(r"(?s)<!--.*?-->", "", (ROOT / name).read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_readme_links_every_notebook():
    linked = set(re.findall(r"\]\((notebooks/[^)]+)\)", README))
    assert linked == {f"notebooks/{path.name}" for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_one_version_number():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == course_lib.__version__ == importlib.metadata.version("transformer-course")


def test_no_code_uses_torchtext():  # fault 3
    for folder in ("course_lib", "benchmarks", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            names = re.findall(r"(?m)^\s*(?:import|from)\s+torchtext", path.read_text(encoding="utf-8"))
            assert not names, path


# ------------------------------------------------------------------------------------------------ the launcher


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty copy of the project's folder, in which nothing is really run: calls are recorded and succeed."""
    calls = []

    def call(command, **_):
        calls.append([str(word) for word in command])
        return home.statuses.pop(0) if home.statuses else 0

    home = SimpleNamespace(path=tmp_path, calls=calls, statuses=[], venv=tmp_path / ".venv")
    for name in ("pyproject.toml", "requirements.lock"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    (home.venv / "bin").mkdir(parents=True)
    (home.venv / "bin" / "python").touch()
    (home.venv / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    monkeypatch.setattr(course, "ROOT", tmp_path)
    monkeypatch.setattr(course, "VENV", home.venv)
    monkeypatch.setattr(course, "VENV_PYTHON", str(home.venv / "bin" / "python"))
    monkeypatch.setattr(course, "STAMP", home.venv / "course-installed")
    monkeypatch.setattr(course, "has_course", lambda _: False)
    monkeypatch.setattr(course.subprocess, "call", call)
    monkeypatch.setattr(course.subprocess, "Popen", call)
    monkeypatch.setattr(course.sys, "stdin", SimpleNamespace(isatty=lambda: False))
    return home


def installs(home):
    return [words for words in home.calls if "install" in words]


def constraints(home):
    words = installs(home)[0]
    return Path(words[words.index("--constraint") + 1]).read_text(encoding="utf-8").splitlines()


def test_it_installs_once_and_again_only_when_the_wanted_packages_change(home):
    for _ in range(3):
        course.environment()
    assert len(installs(home)) == 1
    for name in ("requirements.lock", "pyproject.toml"):
        with (home.path / name).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        course.environment()
        course.environment()
    assert len(installs(home)) == 3


def test_an_interrupted_installation_is_taken_up_again(home):
    """Even for the packages of before: what is installed may by now be half the old ones and half the new."""
    lock = home.path / "requirements.lock"
    before = lock.read_text(encoding="utf-8")
    course.environment()
    lock.write_text("changed==1\n", encoding="utf-8")
    home.statuses = [0, 1]  # the environment works; pip fails
    with pytest.raises(SystemExit, match=r"(?s)did not finish.*repeat: "):
        course.environment()
    lock.write_text(before, encoding="utf-8")
    course.environment()
    assert len(installs(home)) == 3


def test_it_installs_the_tested_versions(home):
    course.environment()
    words = installs(home)[0]
    assert words[-1] == ".[test]" and "--editable" in words
    assert constraints(home) == [f"{name}=={version}" for name, version in LOCK.items()]


def test_the_pytorch_that_the_reader_chose_stays(home, capsys):
    """Else pip would replace a CPU build of another version by the 3 GB of the CUDA build."""
    (home.venv / "lib" / "python3.11" / "site-packages" / "torch-2.14.0+cpu.dist-info").mkdir()
    course.environment()
    assert constraints(home) == [f"{name}=={version}" for name, version in LOCK.items() if name != "torch"]
    assert "3 GB" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "system, machine, card, warned",
    [
        ("linux", "x86_64", None, True),
        ("linux", "x86_64", "/usr/bin/nvidia-smi", False),
        ("linux", "aarch64", None, False),
        ("win32", "AMD64", None, False),
        ("darwin", "arm64", None, False),
    ],
)
def test_the_large_download_is_announced_only_where_it_happens(
    home, monkeypatch, capsys, system, machine, card, warned
):
    monkeypatch.setattr(course.sys, "platform", system)
    monkeypatch.setattr(course.platform, "machine", lambda: machine)
    monkeypatch.setattr(course.shutil, "which", lambda _: card)
    course.environment()
    assert ("3 GB" in capsys.readouterr().out) == warned


def test_the_large_download_can_be_declined_before_it_starts(home, monkeypatch):
    monkeypatch.setattr(course.sys, "platform", "linux")
    monkeypatch.setattr(course.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(course.shutil, "which", lambda _: None)
    monkeypatch.setattr(course.sys, "stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("builtins.input", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(SystemExit, match="Nothing was installed"):
        course.environment()
    assert not installs(home)


Version = namedtuple("Version", "major minor micro releaselevel serial")
UNSUITABLE = {
    "old": ((course.sys, "version_info", Version(3, 10, 14, "final", 0)), "needs Python 3.11 or newer"),
    "32 bit": ((course.sys, "maxsize", 2**31 - 1), "32-bit"),
    "Intel Mac": ((course.sys, "platform", "darwin"), "no longer supports Macs with an Intel processor"),
    "no ensurepip": ((course.importlib.util, "find_spec", lambda _: None), "apt install python3-venv"),
}


@pytest.mark.parametrize("name", UNSUITABLE)
def test_an_unsuitable_python_is_told_what_to_do_before_anything_is_made(home, monkeypatch, name):
    target, message = UNSUITABLE[name]
    monkeypatch.setattr(course.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(*target)
    with pytest.raises(SystemExit, match=message):
        course.environment()
    assert home.calls == []


def test_a_full_disk_is_noticed_before_the_environment_is_made(home, monkeypatch):
    (home.venv / "bin" / "python").unlink()
    monkeypatch.setattr(course.shutil, "disk_usage", lambda _: SimpleNamespace(free=course.ROOM - 1))
    with pytest.raises(SystemExit, match="less than 4 GB free"):
        course.environment()
    assert home.calls == []


def test_a_broken_environment_is_made_anew(home):
    """After an upgrade of the system's Python the one in .venv may be a dead link."""
    home.statuses = [1]
    course.environment()
    assert [words[1:4] for words in home.calls[1:2]] == [["-m", "venv", "--clear"]]


def test_a_conda_environment_is_used_as_it_is(home, monkeypatch):
    monkeypatch.setattr(course, "has_course", lambda _: True)
    assert course.environment() == sys.executable
    assert home.calls == []


def test_the_metadata_in_the_project_folder_do_not_count_as_installed(tmp_path):
    assert not course.has_course(str(tmp_path))
    assert not course.has_course(course.sysconfig.get_path("stdlib"))


def test_lab_trusts_the_notebooks_and_opens_the_first(home):
    (home.path / "notebooks").mkdir()
    (home.path / "notebooks" / "00_start_here.ipynb").touch()
    assert course.lab(course.VENV_PYTHON, ["--no-browser"]) == 0
    release, trust, start = home.calls
    assert release[1:] == ["-m", "course_lib", "coursework", "release", "student"]
    assert trust[1:3] == ["-m", "nbformat.sign"] and trust[3].endswith("00_start_here.ipynb")
    assert start[1:3] == ["-m", "jupyterlab"] and start[-1] == "--no-browser"
    assert ("--allow-root" in start) == (hasattr(os, "geteuid") and os.geteuid() == 0)
    assert "--LabApp.default_url=/lab/tree/student/00_start_here.ipynb" in start
    settings = home.venv / "share" / "jupyter" / "lab" / "settings" / "overrides.json"
    assert '"fetchNews": "false"' in settings.read_text(encoding="utf-8")


def test_lab_opens_the_reference_edition_when_the_readers_own_is_broken(home):
    home.statuses = [1]  # the release fails, and has said why
    assert course.lab(course.VENV_PYTHON, []) == 0
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in home.calls[-1]


def test_test_goes_on_after_a_failure_and_fails_in_the_end(home, capsys):
    home.statuses = [0, 1, 0, 0]
    assert course.test(course.VENV_PYTHON, []) == 1
    assert [words[2] for words in home.calls] == ["ruff", "ruff", "mypy", "pytest"]
    table = capsys.readouterr().out.split("Results")[1]
    assert re.findall(r"(ok|FAILED|none yet) .*?(\w+)$", table, re.MULTILINE) == [
        ("ok", "lint"), ("FAILED", "format"), ("ok", "types"), ("ok", "tests"), ("none yet", "compared"),
    ]  # fmt: skip
    (home.path / "notebooks").mkdir()
    (home.path / "notebooks" / "05_2_model.ipynb").touch()
    assert course.test(course.VENV_PYTHON, []) == 0
    assert "--nbval" in home.calls[-1] and home.calls[-1][-1] == "notebooks"


def test_the_launcher_can_be_read_by_an_old_python():
    """Python 3.8 must get as far as the sentence that it is too old, instead of a syntax error."""
    ast.parse((ROOT / "course.py").read_text(encoding="utf-8"), feature_version=(3, 8))


def test_without_a_command_it_explains_itself():
    run = subprocess.run([sys.executable, ROOT / "course.py"], capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 2 and "course.py lab" in run.stdout


def test_runtime_requirements_are_installed_in_a_supported_version():
    """Whatever this environment is, the ranges hold in it; this is what the newest versions are tried with."""
    for requirement in map(Requirement, PROJECT["dependencies"]):
        version = importlib.metadata.version(requirement.name)
        assert SpecifierSet(str(requirement.specifier)).contains(version, prereleases=True), requirement
