"""A Python kernel in a box, for code that nobody has read: no network, few files, and a limit on all it can use up.

The box is made by bubblewrap (``apt install bubblewrap``), so it needs Linux. In it are Python, ``course_lib`` and
``data/``, read-only; folders of limited size to write to; nothing of the class, of other submissions or of the
reference notebooks; no network, and no process but its own. The kernel is spoken to through sockets in a folder of its
own. What it may use is limited by the system (address space, processes, size of files, processor time) and, since those
limits hold for each process alone, watched from outside: memory of all processes together, output, and time. A box that
exceeds a limit is ended with everything in it.
"""

import contextlib
import json
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import zmq
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.connect import write_connection_file
from nbformat.v4 import output_from_msg

ROOT = Path(__file__).resolve().parents[2]
SHOWN = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache")

LARGEST_MESSAGE = 64 * 2**20  # bytes; what a loop prints in the fifth of a second between two messages is far less

START_SECONDS = 60

# Run in the box before anything else: no code of a student's has a say in what it may use.
LAUNCH = """
import resource, runpy, sys
memory, processes, file_size, seconds = map(int, sys.argv[1:5])
for what, most in (
    (resource.RLIMIT_AS, memory), (resource.RLIMIT_NPROC, processes), (resource.RLIMIT_FSIZE, file_size),
    (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_CORE, 0),
):
    resource.setrlimit(what, (most, most))
sys.argv = ["ipykernel_launcher", "-f", sys.argv[5], "--HistoryManager.enabled=False"]
runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Limits:
    """What a box may use.

    Attributes:
        cell_seconds: for one cell, as the clock on the wall tells.
        seconds: of a processor, and on the wall, for all cells together.
        memory: bytes, for each process (address space) and for all together (resident).
        processes: threads count, too.
        output: bytes that a cell may print or show.
        disk: bytes in each of the places that can be written to; they lie in memory.
    """

    cell_seconds: float = 60.0
    seconds: float = 600.0
    memory: int = 6 * 2**30
    processes: int = 100
    output: int = 2_000_000
    disk: int = 200 * 2**20


@dataclass
class Result:
    """What running a cell gave: its outputs, and the reason if it did not end by itself."""

    outputs: list[dict[str, Any]] = field(default_factory=list)
    reason: str | None = None


def unavailable() -> str:
    """Why there can be no box on this computer and what to do about it, or "" if there can."""
    if sys.platform != "linux":
        return "Grading runs in a box that only Linux has: use a Linux machine, a virtual one, or WSL on Windows."
    needed = ["bwrap"] + (["setpriv"] if os.geteuid() == 0 else [])
    missing = [name for name in needed if shutil.which(name) is None]
    if missing:
        return f"Grading needs {' and '.join(missing)}. On Debian and Ubuntu: sudo apt install bubblewrap util-linux"
    tried = subprocess.run([*_walls(), *_user(_nobody()), "/usr/bin/true"], capture_output=True, text=True)
    if tried.returncode:
        return (
            f"bubblewrap cannot make a box here: {tried.stderr.strip()}. Are user namespaces allowed on this machine?"
        )
    return ""


def _nobody() -> int:
    """The number of a user that owns nothing; one for each box, since the limit on processes counts those of a user."""
    return 100_000 + random.randrange(1_000_000)


def _user(number: int) -> list[str]:
    """Root is not bound by the limit on processes, so in a box that root makes the kernel belongs to nobody."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", "--bounding-set=-all"]


def _walls() -> list[str]:
    """The part of bubblewrap's command that does not depend on the limits."""
    words = ["bwrap", "--die-with-parent", "--new-session", "--clearenv", "--proc", "/proc", "--dev", "/dev"]
    if os.geteuid() == 0:
        words += ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    else:
        words += ["--unshare-all", "--unshare-user", "--disable-userns"]
    for path in SHOWN:
        words += ["--ro-bind-try", path, path]
    return words


class Box:
    """A kernel in a box, as a context: ``with Box() as box: box.run("1 + 1")``.

    Args:
        limits: what it may use.

    Raises:
        RuntimeError: on entry, if there can be no box here, or the kernel does not start.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.reason: str | None = None  # why the box was ended, once it was

    def __enter__(self) -> Self:
        self._number = _nobody()
        self._folder = Path(tempfile.mkdtemp(prefix="box-"))  # short, since a socket's path has at most 107 bytes
        self._ends = time.monotonic() + self.limits.seconds
        connection, content = self._connection()
        log = (self._folder / "log").open("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            self._command(connection), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log
        )
        context = zmq.Context()
        context.setsockopt(zmq.MAXMSGSIZE, LARGEST_MESSAGE)
        self._client = BlockingKernelClient(context=context)
        self._client.load_connection_info(content)
        self._client.start_channels(hb=False)  # whether it lives we see by its process
        with log:
            if not self._answers(time.monotonic() + START_SECONDS):
                log.seek(0)
                said = log.read()[-2000:]
                self.__exit__(None, None, None)
                raise RuntimeError(f"the kernel did not start in its box within {START_SECONDS} seconds: {said}")
        return self

    def _answers(self, deadline: float) -> bool:
        """Wait until the kernel has answered a first question and is idle."""
        while time.monotonic() < deadline and self._process.poll() is None:
            question = self._client.kernel_info()  # asked again: what was said before both are connected is lost
            with contextlib.suppress(queue.Empty):
                while True:
                    reply = self._client.get_iopub_msg(timeout=0.5)
                    if reply["msg_type"] == "status" and reply["parent_header"].get("msg_id") == question:
                        return True
        return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # the first process of the box ends, and with it, by the kernel's rule, all others in it
        self._process.wait()
        self._client.stop_channels()
        self._client.context.destroy(linger=0)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _connection(self) -> tuple[Path, Any]:
        sockets = self._folder / "k"
        sockets.mkdir()
        name, content = write_connection_file(str(sockets / "c.json"), ip=str(sockets / "s"), transport="ipc")
        if os.geteuid() == 0:
            os.chmod(self._folder, 0o711)
            for path in (sockets, Path(name)):
                os.chown(path, self._number, self._number)
        return Path(name), content

    def _command(self, connection: Path) -> list[str]:
        limits, size = self.limits, str(self.limits.disk)
        words = _walls()
        # Whatever can be written to lies in memory and is of limited size; "/", /dev and /dev/shm, too, were writable.
        for place in (Path("/dev/shm"), Path("/tmp"), ROOT / "student"):
            words += [*_folders(place), "--size", size, "--perms", "1777", "--tmpfs", str(place)]
        for path in {Path(sys.prefix), Path(sys.base_prefix), ROOT / "course_lib", ROOT / "data"}:
            if not path.is_relative_to("/usr"):
                words += [*_folders(path), "--ro-bind", str(path), str(path)]
        words += [*_folders(connection.parent), "--bind", str(connection.parent), str(connection.parent)]
        words += _fonts()
        words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", str(ROOT / "student")]
        variables = {
            "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
            "HOME": "/tmp",
            "USER": "student",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
        }
        variables |= {"MALLOC_ARENA_MAX": "2", "TQDM_DISABLE": "1", "PYTHONWARNINGS": "ignore"}  # stderr means failure
        for name, value in variables.items():
            words += ["--setenv", name, value]
        most = (limits.memory, limits.processes, limits.disk, int(limits.seconds))
        return [*words, *_user(self._number), sys.executable, "-I", "-c", LAUNCH, *map(str, most), str(connection)]

    # ------------------------------------------------------------------------------------------------- running code

    def run(self, code: str) -> Result:
        """Run a cell, and end the box if it exceeds a limit: then this and all later cells have a reason."""
        if self.reason is not None:
            return Result(reason=self.reason)
        result = Result()
        message = self._client.execute(code, store_history=False, allow_stdin=False)
        ends, interrupted, received = time.monotonic() + self.limits.cell_seconds, False, 0
        while True:
            try:
                reply = self._client.get_iopub_msg(timeout=0.1)
            except queue.Empty:
                reply = None
            if reply is not None:
                received += len(json.dumps(reply["content"], default=str))
                if received <= self.limits.output and reply["parent_header"].get("msg_id") == message:
                    if reply["msg_type"] == "status" and reply["content"]["execution_state"] == "idle":
                        if interrupted:
                            result.reason = f"stopped after {self.limits.cell_seconds:g} seconds: does each loop end?"
                        return result
                    _add(result.outputs, reply)
            now = time.monotonic()
            if received > self.limits.output:
                return self._end(result, f"more than {self.limits.output:,} bytes of output")
            if reason := self._exceeded(now):
                return self._end(result, reason)
            if now > ends and not interrupted:
                interrupted, ends = True, now + 5  # a loop in Python stops when it is interrupted
                self._client.control_channel.send(self._client.session.msg("interrupt_request", {}))
            elif now > ends:
                return self._end(
                    result, f"no answer after {self.limits.cell_seconds:g} seconds, and it could not be stopped"
                )

    def _exceeded(self, now: float) -> str | None:
        if self._process.poll() is not None:
            return "the kernel ended: by os._exit, by a crash, or because it used more time or memory than allowed"
        if now > self._ends:
            return f"all cells together took more than {self.limits.seconds:g} seconds"
        if self._memory(shared_once=False) > self.limits.memory and self._memory(shared_once=True) > self.limits.memory:
            return f"more than {self.limits.memory / 2**30:.1f} GB of memory"
        return None

    def _memory(self, shared_once: bool) -> int:
        """Bytes of all processes together; telling what they share, as after a fork, takes the system far longer."""
        used = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    used += _memory_of(process, shared_once)
        return used

    def _end(self, result: Result, reason: str) -> Result:
        self.reason = result.reason = reason
        self._process.kill()
        self._process.wait()
        return result


def _memory_of(process: psutil.Process, shared_once: bool) -> int:
    if shared_once:
        with contextlib.suppress(psutil.AccessDenied):  # a process may hide what it shares: then all is its own
            return int(process.memory_full_info().pss)
    return int(process.memory_info().rss)


def _folders(path: Path) -> list[str]:
    """Make the folders above a path; those that bubblewrap makes itself only root may enter."""
    return [word for parent in reversed(path.parents[:-1]) for word in ("--dir", str(parent))]


def _fonts() -> list[str]:
    """Matplotlib's list of fonts, without which it looks at every font again, for seconds."""
    import matplotlib

    words = [word for name in ("/tmp/.cache", "/tmp/.cache/matplotlib") for word in ("--perms", "1777", "--dir", name)]
    for path in Path(matplotlib.get_cachedir()).glob("fontlist-*.json"):
        words += ["--ro-bind", str(path), f"/tmp/.cache/matplotlib/{path.name}"]
    return words


def _add(outputs: list[dict[str, Any]], message: dict[str, Any]) -> None:
    """Add what a message shows; what is printed in pieces becomes one output."""
    try:
        output = output_from_msg(message)
    except ValueError:
        return  # a status, a widget's message, or a request to clear
    last = outputs[-1] if outputs else None
    if last is not None and output["output_type"] == "stream" and last.get("name") == output["name"]:
        last["text"] += output["text"]
    else:
        outputs.append(output)
