"""The box holds: each limit is tried by code that would go far beyond it, inside an outer limit of its own."""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from course_lib.coursework import box
from course_lib.coursework.box import Box, Limits

WHY_NOT = box.unavailable()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)
SMALL = Limits(cell_seconds=3, seconds=60, memory=2**30, processes=40, output=200_000, disk=20 * 2**20)


@pytest.fixture(autouse=True)
def outer_limit():
    """What a box fails to hold in must not take the machine with it: this very process may not grow without end."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (12 * 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def small():
    with Box(SMALL) as opened:
        yield opened


def printed(result):
    return "".join(output.get("text", "") for output in result.outputs)


def error(result):
    return next((f"{o['ename']}: {o['evalue']}" for o in result.outputs if o["output_type"] == "error"), "")


def test_cells_share_a_kernel_and_give_what_they_print(small):
    assert printed(small.run("x = 6\nprint('a')\nprint(x * 7)")) == "a\n42\n"
    result = small.run("x + 1")
    assert result.outputs[0]["data"]["text/plain"] == "7" and result.reason is None
    assert error(small.run("1 / 0")).startswith("ZeroDivisionError")
    assert printed(small.run("print(x)")) == "6\n", "an error ends nothing"


def test_the_course_runs_in_it_and_writes_nothing_to_stderr():
    with Box() as opened:
        result = opened.run(
            "from course_lib.viz.plots import setup; setup(seed=0)\nimport torch\nprint(torch.ones(3).sum())"
        )
        assert printed(result) == "tensor(3.)\n" and [o.get("name") for o in result.outputs] == ["stdout"]
        assert printed(opened.run("from pathlib import Path; print(Path('../data/outline.tsv').exists())")) == "True\n"


# ------------------------------------------------------------------------------------------------ what is not in it


@pytest.mark.parametrize("place", ["/root", "/home", "/var", "/etc/passwd", "/etc/shadow", "/opt", "/mnt", "/srv"])
def test_the_rest_of_the_computer_is_not_there(small, place):
    visible = printed(
        small.run(f"import os; print(sorted(os.listdir('{place}')) if os.path.isdir('{place}') else None)")
    )
    allowed = {part for path in (sys.prefix, sys.base_prefix, str(box.ROOT)) for part in Path(path).parts}
    assert not set(eval(visible) or []) - allowed


def test_neither_the_reference_nor_the_tests_nor_the_class_are_there(small, tmp_path):
    (tmp_path / "other_student.txt").write_text("secret")
    code = "import os\nprint([p for p in {} if os.path.exists(p)])"
    wanted = [str(box.ROOT / name) for name in ("notebooks", "tests", ".git", "README.md")] + [str(tmp_path)]
    assert printed(small.run(code.format(wanted))) == "[]\n"


@pytest.mark.parametrize(
    "place", [str(box.ROOT / "course_lib"), str(box.ROOT / "data"), sys.prefix, "/usr", "/", "/dev", str(box.ROOT)]
)
def test_what_is_there_cannot_be_changed(small, place):
    assert "Error" in error(small.run(f"open('{place}/mine', 'w').write('x')"))
    assert not (Path(place) / "mine").exists()


def test_deleting_everything_deletes_nothing(small):
    before = sorted(path.name for path in (box.ROOT / "course_lib").iterdir())
    small.run(
        f"import shutil\nfor p in ('{box.ROOT}', '/', '/usr', '{sys.prefix}'): shutil.rmtree(p, ignore_errors=True)"
    )
    assert sorted(path.name for path in (box.ROOT / "course_lib").iterdir()) == before
    assert Path(sys.executable).exists()


def test_there_is_no_network(small):
    code = """import socket
for address in (("127.0.0.1", {}), ("192.0.2.1", 80)):
    try:
        socket.create_connection(address, 1)
        print("open")
    except OSError:
        print("closed")"""
    import socket

    with socket.socket() as server:  # something that listens on this computer
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert printed(small.run(code.format(server.getsockname()[1]))) == "closed\nclosed\n"


def test_no_other_process_can_be_seen_or_ended(small):
    seen = printed(small.run("import os; print(len([p for p in os.listdir('/proc') if p.isdigit()]))"))
    assert int(seen) < 6
    assert "Error" in error(small.run(f"import os; os.kill({os.getpid()}, 9)"))
    assert "Error" in error(small.run("import os; os.setuid(0)"))


# --------------------------------------------------------------------------------------------- what it may not use up


def test_an_endless_loop_is_interrupted_and_the_kernel_lives_on(small):
    started = time.monotonic()
    result = small.run("while True: pass")
    assert result.reason == "stopped after 3 seconds: does each loop end?" and time.monotonic() - started < 20
    assert "KeyboardInterrupt" in error(result)
    assert printed(small.run("print('on')")) == "on\n"


def test_a_loop_that_cannot_be_interrupted_ends_the_box(small):
    result = small.run("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass")
    assert result.reason == "no answer after 3 seconds, and it could not be stopped"
    assert small.run("print('on')").reason == result.reason, "later cells say why they did not run"
    assert not psutil.pid_exists(small._process.pid) or small._process.poll() is not None


def test_a_large_allocation_fails_in_its_own_cell(small):
    assert "MemoryError" in error(small.run("x = bytearray(10 * 2**30)"))
    assert "MemoryError" in error(small.run("import numpy as np; x = np.ones(10 * 2**27)"))
    assert printed(small.run("print('on')")) == "on\n"


@pytest.mark.parametrize("hidden", [False, True])
def test_many_processes_together_may_not_take_more_memory_than_one(hidden, monkeypatch):
    if hidden:  # a process can refuse to tell what it shares

        def refuse(process):
            raise psutil.AccessDenied(process.pid)

        monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    code = """import os, time
for _ in range(6):
    if os.fork() == 0:
        x = bytearray(b"x") * (2 * 10**8)
        time.sleep(30)
        os._exit(0)
time.sleep(30)"""
    with Box(Limits(cell_seconds=40, seconds=60, memory=2**30, processes=40)) as opened:
        assert opened.run(code).reason == "more than 1.0 GB of memory"


def test_processes_are_limited(small):  # proved with a few, before the next test trusts in it
    code = """import os, time
made = 0
try:
    for made in range(60):
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
except OSError as error:
    print(made, error)"""
    result = small.run(code)
    made, said = printed(result).split(maxsplit=1)
    assert int(made) < SMALL.processes and "temporarily unavailable" in said
    assert result.reason is None


def test_memory_that_processes_share_counts_once():
    code = """import os, time
x = bytearray(b"x") * (3 * 10**8)
for _ in range(6):
    if os.fork() == 0:
        y = sum(x[:: 4096])  # touches each page
        time.sleep(2)
        os._exit(0)
time.sleep(2)
print("done")"""
    with Box(Limits(cell_seconds=40, seconds=60, memory=2**30, processes=40)) as opened:
        result = opened.run(code)
    assert result.reason is None and printed(result) == "done\n"


def test_a_fork_bomb_stays_in_the_box(small):
    before = len(psutil.pids())
    result = small.run("import os\nfor _ in range(10_000):\n    try: os.fork()\n    except OSError: pass")
    assert len(psutil.pids()) - before < SMALL.processes + 20
    assert result.reason is not None or "Error" in error(result) or result.outputs == []
    small.__exit__(None, None, None)
    time.sleep(0.5)
    assert len(psutil.pids()) - before < 10, "with the box everything in it has ended"


def test_threads_count_as_processes(small):
    result = small.run(
        "import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(5,)).start()"
    )
    assert "can't start new thread" in error(result)


def test_printing_for_ever_ends_the_box(small):
    result = small.run("while True: print('x' * 1000)")
    assert result.reason == "more than 200,000 bytes of output"
    assert len(printed(result)) <= SMALL.output


def test_one_enormous_output_is_not_received(small):
    before = psutil.Process().memory_info().rss
    result = small.run("print('x' * 10**8)")
    assert result.reason is not None and psutil.Process().memory_info().rss - before < 10**8


def test_a_full_disk_is_the_students_own(small):
    assert "Error" in error(small.run("open('/tmp/a', 'wb').write(bytes(10**8))"))
    many = "for i in range(50):\n    with open(f'/tmp/b{i}', 'wb') as f: f.write(bytes(10**6))"
    assert "No space left" in error(small.run(many))
    assert "Error" in error(small.run("open('/dev/shm/a', 'wb').write(bytes(10**8))"))


@pytest.mark.parametrize(
    "code", ["import os; os._exit(0)", "import os; os.kill(os.getpid(), 9)", "import ctypes; ctypes.string_at(0)"]
)
def test_a_kernel_that_ends_is_noticed_at_once(small, code):
    started = time.monotonic()
    assert "the kernel ended" in small.run(code).reason
    assert time.monotonic() - started < 3


def test_all_cells_together_have_a_limit():
    with Box(Limits(cell_seconds=30, seconds=4)) as opened:
        reasons = [opened.run("import time; time.sleep(1.5)").reason for _ in range(4)]
    assert reasons[-1] == "all cells together took more than 4 seconds"


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(box.tempfile, "tempdir", str(tmp_path))
    with Box(SMALL) as opened:
        pid = opened._process.pid
        opened.run("open('left', 'w').write('x')")
    assert not psutil.pid_exists(pid) and list(tmp_path.iterdir()) == []
    assert not (box.ROOT / "student" / "left").exists()


def test_a_box_ends_with_the_process_that_made_it():
    code = (
        "from course_lib.coursework.box import Box\nimport os, psutil\nbox = Box().__enter__()\n"
        "print(*[p.pid for p in psutil.Process().children(recursive=True)], flush=True)\nos._exit(1)"
    )
    pids = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()
    assert pids
    time.sleep(0.5)
    assert not [pid for pid in pids if psutil.pid_exists(int(pid)) and psutil.Process(int(pid)).status() != "zombie"]


def test_without_bubblewrap_the_cure_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert "apt install bubblewrap" in box.unavailable()
