"""Python programs without the price of their imports: forked from a process that has made them.

Most of a gateway's start is imports, and the suite starts some hundreds. So each pytest process
has a nursery, which has imported what they all need. For a program it forks a keeper, and that
forks the program: the keeper says the program's id, and with what it ended.

That the real command starts is shown where it is run as people run it: `tests/test_demo.py`, and
a port in use in `tests/service/test_workers.py`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO

_ROOT = Path(__file__).resolve().parent.parent
_IMPORTED = ("gateway.cli", "gateway.app", "uvloop")
_MOST = 1 << 17  # bytes of a request: arguments and environment


class Forked:
    """A program from the nursery, with as much of Popen as is needed."""

    def __init__(
        self, command: Sequence[str], folder: Path, env: Mapping[str, str],
        output: IO[bytes], errors: IO[bytes],
    ) -> None:  # fmt: skip
        """Start `MODULE ARGUMENTS...`, with nothing to read."""
        module, *arguments = command
        ours, theirs = socket.socketpair()
        self._keeper = ours.makefile("rb", 0)
        ours.close()
        words = {"module": module, "arguments": arguments, "folder": str(folder), "env": dict(env)}
        with theirs:
            handed = [theirs.fileno(), output.fileno(), errors.fileno()]
            socket.send_fds(_nursery(), [json.dumps(words).encode()], handed)
        self.pid = int(self._keeper.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; TimeoutExpired if it still runs by then."""
        if self.returncode is None:
            if not select.select([self._keeper], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.returncode = int(self._keeper.readline())
            self._keeper.close()
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)


@cache
def _nursery() -> socket.socket:
    """Return where to ask for programs; the nursery ends with the process that asks."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", str(theirs.fileno())], cwd=_ROOT,
            pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
        )  # fmt: skip
    atexit.register(_end, ours, process)
    return ours


def _end(nursery: socket.socket, process: subprocess.Popen[bytes]) -> None:
    nursery.close()
    process.wait()


# --- in the nursery --------------------------------------------------------------------------


def main() -> None:
    """Fork until nobody can ask any more; a program goes on behind this, with what it was told."""
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends pytest, and that ends the programs
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        while True:
            words, handed, *_ = socket.recv_fds(asking, _MOST, 3)
            _reap()
            if not words:
                return
            if os.fork() == 0:
                break
            for each in handed:
                os.close(each)
    _keep(words, *handed)


def _reap() -> None:
    """Let go of keepers whose programs have ended; their time counts as ours."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _keep(words: bytes, line: int, output: int, errors: int) -> None:
    """Tell of the program, and wait for it; or be it."""
    os.dup2(output, 1)
    os.dup2(errors, 2)
    os.close(output)
    os.close(errors)
    program = os.fork()
    if program == 0:
        os.close(line)
        _be(**json.loads(words))
        return
    os.write(line, b"%d\n" % program)
    code = os.waitstatus_to_exitcode(os.waitpid(program, 0)[1])
    with contextlib.suppress(OSError):  # nobody wants to know any more
        os.write(line, b"%d\n" % code)
    os._exit(0)


def _be(*, module: str, arguments: list[str], folder: str, env: dict[str, str]) -> None:
    """Run a module as `python -m` does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
