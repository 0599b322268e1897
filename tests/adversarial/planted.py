"""Faults, planted one at a time in a copy of the gateway or of a configuration: each must show.

A suite that is green for a broken gateway proves nothing. An edit that does not apply is an error.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from gateway.embedded import EmbeddedValkey
from tests import servers
from tests.e2e.stack import running_stack

from .running import red, run_all

NGINX = "deploy/nginx/nginx.conf"
ENVOY = "deploy/envoy/envoy.yaml"


@dataclass(frozen=True)
class Edit:
    """Replace a text in a file, wherever it stands there."""

    file: str
    old: str
    new: str = ""

    def apply(self, text: str) -> str:
        """Return the text with the fault in it."""
        assert self.old in text, f"{self.file} has no {self.old!r} (any more)"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class Fault:
    """What somebody might break."""

    what: str
    edits: tuple[Edit, ...]
    behind: str = NGINX


def _one(what: str, file: str, old: str, new: str = "", behind: str = "") -> Fault:
    config = behind or (file if file.startswith("deploy/") else NGINX)
    return Fault(what, (Edit(file, old, new),), config)


TARGET, POLICY = "gateway/target.py", "gateway/policy.py"
_ALL_THERE = "if not (method and target and host and address and scheme):"
_LINES = '";".join(headers)'
# What the client wrote reaches the gateway through other proxies, in lines as it came.
_ALL_HEADERS = Edit(NGINX, "            proxy_pass_request_headers off;\n")
AUTHORIZER, CREDENTIALS = "gateway/authorizer.py", "gateway/credentials.py"

FAULTS = (
    # What is decided.
    _one("dot segments are believed", TARGET, r"|(?:^|/)\.\.?(?:/|\Z)"),
    _one("only the raw path is judged", TARGET, "return _closure(path)", "return (path,)"),
    _one("slashes are not merged", TARGET, '        _SLASHES.sub("/", path),\n'),
    _one("parameters stay", TARGET, '        _PARAMETERS.sub("", path),\n'
         '        path.partition(";")[0],\n'),
    _one("one public reading is enough", POLICY, "all(rule.access is", "any(rule.access is"),
    _one("no matter what roles", "gateway/judge.py", "rule.roles.isdisjoint(session.roles)",
         "False"),
    _one("OPTIONS may pass", AUTHORIZER, '        place = method, host, target.partition("?")[0]\n',
         '        place = method, host, target.partition("?")[0]\n'
         '        if method == "OPTIONS":\n            return PUBLIC\n'),
    _one("no cookie, no question", AUTHORIZER, "return DENIALS[key]", "return PUBLIC"),
    _one("an unknown session is nobody", AUTHORIZER,
         "return _deny(reason or Reason.UNKNOWN_SESSION, question.rules)", "return PUBLIC"),
    _one("health checks may pass", "gateway/adapters/auth_request.py", _ALL_THERE,
         'if "kube-probe" in subrequest.headers.get("User-Agent", ""):\n'
         f'        target = "/public"\n    {_ALL_THERE}'),
    Fault("the client says which page it is",
          (Edit("gateway/adapters/auth_request.py", _ALL_THERE,
                f'target = subrequest.headers.get("X-Rewrite-URL", target)\n    {_ALL_THERE}'),
           Edit(NGINX, 'proxy_set_header X-Rewrite-URL          "";\n'), _ALL_HEADERS)),
    # Whose session it is.
    _one("the first cookie wins", CREDENTIALS, "if len(values) != 1:", "if not values:"),
    Fault("the last cookie wins",
          (Edit(CREDENTIALS, "if len(values) != 1:", "if not values:"),
           Edit(CREDENTIALS, "values[0]", "values[-1]"))),
    Fault("only the first cookie line counts",
          (Edit(CREDENTIALS, _LINES, '"".join(headers[:1])'), _ALL_HEADERS,
           Edit(NGINX, "proxy_set_header Cookie                        $http_cookie;\n"))),
    _one("a comma separates cookies, too", CREDENTIALS, _LINES, f'{_LINES}.replace(",", ";")'),
    _one("cookie names in any case", CREDENTIALS, _LINES, f"{_LINES}.replace(name.lower(), name)"),
    _one("any space around cookie names", CREDENTIALS, _LINES, f'"".join({_LINES}.split())'),
    # What the application and the browser read.
    _one("identities in lower case", "gateway/identity.py",
         '"".join(f"{name}: {value}', '"".join(f"{name}: {value.lower()}'),
    _one("no escapes in headers", "gateway/identity.py",
         'return text if text.isascii() and "%" not in text else quote(text, safe=_KEPT)',
         "return text"),
    _one("return addresses unescaped", "gateway/adapters/answers.py",
         'replace("{url}", back)',
         'replace("{url}", back.replace("%26", "&").replace("%3D", "="))'),
    _one("answers may be kept", "gateway/adapters/wire.py", '("Cache-Control", "no-store"), ',
         behind=ENVOY),
    # How proxies ask, and what they hand on.
    _one("nginx asks nobody", NGINX, "auth_request /_gateway;"),
    _one("a public location of nginx's own", NGINX, "        location / {",
         "        location /public { proxy_pass http://application; }\n        location / {"),
    _one("nginx hands the client's X-Auth-Roles on", NGINX,
         "proxy_set_header X-Auth-Roles   $auth_roles;"),
    _one("nginx hands underscores on", NGINX, "underscores_in_headers off",
         "underscores_in_headers on"),
    _one("nginx hands X-Original-URL on", NGINX, 'proxy_set_header X-Original-URL         "";\n'),
    _one("nginx hands on the host as written", NGINX, "proxy_set_header Host              $host;",
         "proxy_set_header Host              $http_host;"),
    _one("nginx upgrades to anything", NGINX, 'default         "";', "default $http_upgrade;"),
    _one("nginx's refusals may be kept", NGINX, "add_header Cache-Control no-store"
         "         always;"),
    _one("nginx's question can be asked", NGINX, "            internal;\n"),
    Fault("nginx keeps decisions",
          (Edit(NGINX, "    upstream gateway {",
                "    proxy_cache_path cache keys_zone=auth:1m;\n    upstream gateway {"),
           Edit(NGINX, "            proxy_cache off;",
                "            proxy_cache auth; proxy_cache_key $request_uri; "
                "proxy_cache_valid 200 1m;\n"
                "            proxy_ignore_headers Cache-Control X-Accel-Expires Vary;")), NGINX),
    _one("Envoy removes what has dashes only", ENVOY, "x[^a-z0-9]auth[^a-z0-9]", "x-auth-"),
    _one("Envoy keeps the user to itself", ENVOY,
         "                              - {exact: x-auth-user, ignore_case: true}\n"),
    _one("Envoy believes X-Original-URL", ENVOY, "(original|rewrite)", "none"),
)  # fmt: skip


def red_cases(fault: Fault, upstream: int, redis_url: str) -> list[str]:
    """Return the cases that a fault turns red."""
    with ExitStack() as running:
        env = {"PYTHONPATH": str(running.enter_context(broken_gateway(fault)))}
        stack = running.enter_context(running_stack(redis_url, env | {"GW_CHECK__DRAIN": "10ms"}))
        port = servers.free_port()
        with _start_proxy(fault, port, stack.check_port, upstream):
            return red(run_all(port, stack.back_end))


@contextmanager
def broken_gateway(fault: Fault) -> Iterator[Path]:
    """Yield a folder with a copy of the gateway that has the fault."""
    with tempfile.TemporaryDirectory(prefix="planted-") as name:
        folder = Path(name)
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(servers.ROOT / "gateway", folder / "gateway", ignore=ignored)
        for edit in fault.edits:
            if edit.file != fault.behind:
                path = folder / edit.file
                path.write_text(edit.apply(path.read_text()))
        yield folder


def _start_proxy(fault: Fault, listen: int, gateway: int, application: int) -> servers.Program:
    ports = {"listen": listen, "gateway": gateway, "application": application}
    envoy = fault.behind == ENVOY
    text = servers.envoy_yaml(**ports) if envoy else servers.nginx_conf(**ports)
    for edit in fault.edits:
        if edit.file == fault.behind:
            text = edit.apply(text)
    return servers.start_envoy(text) if envoy else servers.start_nginx(text)


def plant_all() -> Iterator[tuple[Fault, list[str]]]:
    """Plant one fault after the other; yield each with what it turned red."""
    with ExitStack() as running:
        upstream = servers.free_port()
        running.enter_context(servers.start_check_upstream(upstream))
        valkey = running.enter_context(EmbeddedValkey(port=servers.free_port()))
        for fault in FAULTS:
            yield fault, red_cases(fault, upstream, valkey.url)
