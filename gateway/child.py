"""A child process that ends with us, however we end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from .errors import ConfigurationError

STOP_S = 5.0
_LOG = "output.log"

# Linux could end a child with its parent (PR_SET_PDEATHSIG), but "parent" there is the thread
# that started it: a server begun in a worker thread would die with that thread. Instead a second
# process waits until our end of its standard input is closed, which the kernel does for us even
# after SIGKILL. It is a child of the program, so it can tell the program from a later process
# with the same id.
_LAUNCHER = """
import os, shutil, signal, sys, time
folder, program = sys.argv[1], os.getpid()
if os.fork() == 0:
    os.read(0, 1)
    for number in [signal.SIGTERM] + [0] * 50 + [signal.SIGKILL]:
        if os.getppid() != program:
            break
        os.kill(program, number)
        time.sleep(0.1)
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.execvp(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A running program with a temporary folder of its own, where its output goes too.

    Ctrl-C in a terminal does not reach it: whoever uses it ends first, and calls `stop()`.
    """

    def __init__(
        self, name: str, command: Sequence[str], folder: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.folder = folder
        launcher = [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(folder)]
        with (folder / _LOG).open("wb") as output:
            self._process = subprocess.Popen(
                [*launcher, *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(env or {})},
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far."""
        return (self.folder / _LOG).read_text(errors="replace")

    @property
    def last_line(self) -> str:
        """What it said last: of a program that has ended, usually why."""
        lines = self.output.split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def await_ready(self, ready: Callable[[], bool], within_s: float) -> None:
        """Return when `ready` holds; ConfigurationError when the program ends or takes too long."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            if not self.running:
                raise ConfigurationError(f"{self.name} ended at its start: {self.last_line}")
            if ready():
                return
            time.sleep(0.01)
        raise ConfigurationError(f"{self.name} did not answer within {within_s:g} s")

    def stop(self) -> None:
        """End the program, by force if it does not go, and remove its folder."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:  # SIGSTOP, for one, holds SIGTERM back
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()  # lets the waiting half of the launcher go
        shutil.rmtree(self.folder, ignore_errors=True)


def new_folder(name: str) -> Path:
    """Return a new temporary folder for a child, which removes it."""
    return Path(tempfile.mkdtemp(prefix=f"gateway-{name}-"))
