"""The configuration files: the gateway's, and nginx's as it is shipped."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from ..errors import ConfigurationError
from .ports import HOST, Ports

NGINX_CONF = Path(__file__).resolve().parents[2] / "deploy" / "nginx" / "nginx.conf"
COOKIE = "demo-sid"
# Rules name their hosts: who asks for any other is refused, not led to sign in and then back there.
HOSTS = (HOST, "localhost")

# The demo speaks plain HTTP. Browsers send Secure cookies to 127.0.0.1 all the same, curl and most
# other clients do not; and the prefix "__Host-" is for Secure cookies only. Elsewhere leave
# [session.cookie] out.
_GATEWAY_TOML = """\
[check]
listen = ["{host}:{ports.check}"]
drain = "100ms"

[pages]
login_url = "http://{host}:{ports.front}/login?rd={{url}}"

[admin]
listen = ["{host}:{ports.admin}"]
tokens = [{{ name = "demo", sha256 = "{digest}", scopes = ["sessions:read", "sessions:write"] }}]

[redis]
url = "{redis_url}"

[session.cookie]
name = "{cookie}"
secure = false

[[policy.rules]]
path = "/"
access = "public"

[[policy.rules]]
path = "/login"
access = "public"
"""
_RULES_OF_A_HOST = """
[[policy.rules]]
host = "{host}"
path = "/admin/**"
access = "session"
roles = ["admin"]

[[policy.rules]]
host = "{host}"
path = "/**"
access = "session"
"""


def gateway_toml(ports: Ports, redis_url: str, token: str) -> str:
    """Return the gateway's configuration; of the admin token it holds the digest only."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    text = _GATEWAY_TOML.format(
        host=HOST, ports=ports, redis_url=redis_url, digest=digest, cookie=COOKIE
    )
    return text + "".join(_RULES_OF_A_HOST.format(host=host) for host in HOSTS)


def nginx_conf(ports: Ports, folder: Path) -> str:
    """Return the shipped configuration with these ports and all its files in `folder`."""
    try:
        text = NGINX_CONF.read_text()
    except OSError:
        raise ConfigurationError(
            f"the demo needs {NGINX_CONF}: run it in a checkout of the project"
        ) from None
    return _in_folder(_with_ports(text, ports), folder)


def _with_ports(text: str, ports: Ports) -> str:
    shipped = Ports()
    moved = {
        shipped.front: ports.front,
        shipped.check: ports.check,
        shipped.application: ports.application,
    }
    return re.sub(
        rf"\b{re.escape(HOST)}:(\d+)\b",
        lambda found: f"{HOST}:{moved.get(int(found[1]), int(found[1]))}",
        text,
    )


def _in_folder(text: str, folder: Path) -> str:
    """Move the pid file, the logs and (compiled in) the temporary files."""
    text = text.replace("/run/nginx.pid", f"{folder}/nginx.pid")
    text = text.replace("/var/log/nginx/", f"{folder}/")
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"    {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    return re.sub(r"^http \{\n", f"http {{\n{temporary}", text, count=1, flags=re.MULTILINE)
