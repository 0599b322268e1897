"""The configuration: TOML, overridden by `GW_SECTION__KEY`, secrets also from files.

Only `app` and the commands import this; every part gets plain values. `load` reports every
problem at once, each with its place and what to do.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from .errors import ConfigurationError, Problem
from .lifetime import PRESETS, Lifetime, beyond, parse_duration_ms
from .policy import Access, RuleSpec, problems_of

ENV_PREFIX = "GW_"
# Settings of the commands, not of the service.
_ENV_OF_COMMANDS = frozenset({"GW_ADMIN_URL", "GW_ADMIN_TOKEN"})
_FILE_SUFFIX = "_file"
SECRETS = frozenset({("redis", "url"), ("redis", "password"), ("postgres", "dsn")})


def _duration(value: object) -> int:
    if not isinstance(value, str):
        raise ValueError("write a duration as text, for example 500ms, 15m, 4h or 30d")
    return parse_duration_ms(value)


def _cookie_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
        raise ValueError("is not a cookie name (RFC 6265: letters, digits, - and _)")
    return name


def _power_of_two(number: int) -> int:
    if number & (number - 1):
        raise ValueError("must be a power of two: 1, 2, 4 ... 256")
    return number


def _redis_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if text and not text.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("must begin with redis://, rediss:// or unix://")
    return url


def _login_url(url: str) -> str:
    if url and not url.startswith(("https://", "http://")):
        raise ValueError("must be an absolute http(s) URL; nginx cannot redirect to another kind")
    if url and "{url}" not in url:
        raise ValueError("must hold {url} where the return address goes")
    if re.search(r"[\x00-\x20\x7f-\uffff\"<>\\]", url):
        raise ValueError("must be ASCII without spaces, quotes or backslashes; percent-encode them")
    return url


def _listen_address(address: str) -> str:
    if not re.fullmatch(r"unix:/.+|(?:\[[0-9a-fA-F:.]+\]|[^:\s\[\]]+):\d{1,5}", address):
        raise ValueError('write "127.0.0.1:9180", "[::1]:9180" or "unix:/path.sock"')
    if not address.startswith("unix:") and int(address.rpartition(":")[2]) > 65535:
        raise ValueError("the port is above 65535")
    return address


Duration = Annotated[int, BeforeValidator(_duration)]
ListenAddress = Annotated[str, AfterValidator(_listen_address)]


def _network(text: object) -> object:
    try:
        return ipaddress.ip_network(str(text))
    except ValueError as error:
        raise ValueError(f"{error}; write for example 10.0.0.0/8") from None


Network = Annotated[ipaddress.IPv4Network | ipaddress.IPv6Network, BeforeValidator(_network)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Check(_Section):
    """The listener that proxies ask."""

    listen: tuple[ListenAddress, ...] = ("127.0.0.1:9180",)
    trusted_proxies: tuple[Network, ...] = (
        ipaddress.ip_network("127.0.0.0/8"),
        ipaddress.ip_network("::1/128"),
    )
    grpc_listen: tuple[ListenAddress, ...] = ()
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    raw_utf8: bool = False
    drain: Duration = 2000


class Pages(_Section):
    """Where people are sent to sign in."""

    listen: tuple[ListenAddress, ...] = ()
    login_url: Annotated[str, AfterValidator(_login_url)] = ""


class AdminToken(_Section):
    """A bearer token of the admin API; only its SHA-256 is configured."""

    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    scopes: tuple[Literal["sessions:read", "sessions:write", "events:read", "metrics"], ...]


class Admin(_Section):
    """The internal listener of operators and of the application's back end."""

    listen: tuple[ListenAddress, ...] = ("127.0.0.1:9182",)
    tokens: tuple[AdminToken, ...] = ()
    insecure: bool = False
    tls_cert: str = ""
    tls_key: str = ""
    without_token: tuple[Literal["metrics", "openapi"], ...] = ()
    max_body: Annotated[int, Field(ge=1024, le=1_048_576)] = 65536


class Redis(_Section):
    """Where the sessions are."""

    url: Annotated[SecretStr, AfterValidator(_redis_url)] = SecretStr("")
    username: str = ""
    password: SecretStr = SecretStr("")
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9:._-]{1,32}$")] = "gw:"
    partitions: Annotated[int, Field(ge=1, le=256), AfterValidator(_power_of_two)] = 16


class Cookie(_Section):
    """The cookie that carries the token."""

    name: Annotated[str, AfterValidator(_cookie_name)] = "__Host-sid"
    same_site: Literal["lax", "strict", "none"] = "lax"
    domain: Annotated[str, Field(pattern=r"^(\.?[a-z0-9-]+(\.[a-z0-9-]+)+)?$")] = ""
    secure: bool = True

    @property
    def full_name(self) -> str:
        """With a Domain the prefix `__Host-` would make browsers refuse the cookie."""
        if self.domain and self.name.startswith("__Host-"):
            return "__Secure-" + self.name.removeprefix("__Host-")
        return self.name


class Session(_Section):
    """How long sessions live and how many a user may have."""

    idle: Annotated[Duration, Field(ge=1000)] = 4 * 3_600_000
    absolute: Annotated[Duration, Field(ge=1000)] = 30 * 86_400_000
    preset: Literal["", "aal1", "aal2", "aal3", "pci"] = ""
    max_per_user: Annotated[int, Field(ge=0, le=1000)] = 5
    on_limit: Literal["evict", "deny"] = "evict"
    one_per_device: bool = True
    cookie: Cookie = Cookie()

    @property
    def lifetime(self) -> Lifetime:
        """The preset's timeouts where they are not set themselves."""
        own = Lifetime(self.idle, self.absolute)
        if not self.preset:
            return own
        preset = PRESETS[self.preset]
        return Lifetime(
            own.idle_ms if "idle" in self.model_fields_set else preset.idle_ms,
            own.absolute_ms if "absolute" in self.model_fields_set else preset.absolute_ms,
        )


class Revocation(_Section):
    """How long a revocation may take at most. No replica trusts its memory yet: it is immediate."""

    lease: Duration = 500
    confirm_timeout: Duration = 1000


class Postgres(_Section):
    """Where events will be kept."""

    dsn: SecretStr = SecretStr("")


class Geo(_Section):
    """Where addresses will be looked up."""

    city: str = ""
    asn: str = ""


class Events(_Section):
    """The outbox in Redis."""

    outbox_limit: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000


class PolicyRule(_Section):
    """One rule; the first that matches decides."""

    access: Access
    host: str = ""
    path: str = ""
    methods: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def spec(self) -> RuleSpec:
        return RuleSpec(self.access, self.host, self.path, self.methods, self.roles)


class Policy(_Section):
    """Who may pass where."""

    rules: tuple[PolicyRule, ...] = ()


class Log(_Section):
    """What is written to standard error, as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    denials: bool = True


class Settings(BaseSettings):
    """The whole configuration, frozen."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    check: Check = Check()
    pages: Pages = Pages()
    admin: Admin = Admin()
    redis: Redis = Redis()
    session: Session = Session()
    revocation: Revocation = Revocation()
    postgres: Postgres = Postgres()
    geo: Geo = Geo()
    events: Events = Events()
    policy: Policy = Policy()
    log: Log = Log()

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: Any, init_settings: Any, *others: Any, **named: Any
    ) -> Any:
        """Only what `load` merged: a second, hidden look at the environment would surprise."""
        del settings_cls, others, named
        return (init_settings,)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, if they can be used, with all problems and all warnings."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def load(path: str | None, env: Mapping[str, str] | None = None) -> Loaded:
    """Read and check everything.

    Raises ConfigurationError when the file cannot be read or is not TOML.
    """
    values = _read_toml(path) if path else {}
    environment = dict(os.environ if env is None else env)
    problems = _unknown_variables(environment)
    values = _merge(values, _from_environment(environment))
    problems += _read_secret_files(values)
    settings, found = _validate(values)
    problems += found
    warnings: list[Problem] = []
    if settings is not None:
        wrong = {_base(problem) for problem in problems}
        problems += [danger for danger in _dangers(settings) if _base(danger) not in wrong]
        warnings = _warnings(settings)
    return Loaded(None if problems else settings, tuple(problems), tuple(warnings))


def _read_toml(path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    source = EnvSettingsSource(Settings, case_sensitive=False)
    source.env_vars = {
        name.lower(): value
        for name, value in env.items()
        if name.startswith(ENV_PREFIX) and name not in _ENV_OF_COMMANDS
    }
    return source()


def _unknown_variables(env: Mapping[str, str]) -> list[Problem]:
    """A misspelt override must not be ignored."""
    sections = set(Settings.model_fields)
    return [
        Problem(name, f"no such section; sections are: {', '.join(sorted(sections))}")
        for name in sorted(env)
        if name.startswith(ENV_PREFIX)
        and name not in _ENV_OF_COMMANDS
        and name.removeprefix(ENV_PREFIX).lower().split("__")[0] not in sections
    ]


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for name, value in over.items():
        below = merged.get(name)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[name] = _merge(below, value)
        else:
            merged[name] = value
    return merged


def _read_secret_files(values: dict[str, Any]) -> list[Problem]:
    """Replace every `<secret>_file` by what the file holds."""
    problems = []
    for section, key in sorted(SECRETS):
        table = values.get(section)
        if not isinstance(table, dict) or key + _FILE_SUFFIX not in table:
            continue
        table = values[section] = dict(table)
        place, path = f"{section}.{key}{_FILE_SUFFIX}", table.pop(key + _FILE_SUFFIX)
        if key in table:
            problems.append(Problem(place, f"{section}.{key} is set too; keep one of them"))
        try:
            table[key] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, TypeError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not a path to a text file"
            problems.append(Problem(place, f"{path} cannot be read: {why}"))
    return problems


def _validate(values: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """Validate; where values are wrong, look at the rest without them, to report all at once."""
    try:
        return Settings(**values), []
    except ValidationError as error:
        problems = [
            Problem(_place(each["loc"]), _message(each)) for each in error.errors(include_url=False)
        ]
        rest = values
        for each in reversed(error.errors(include_url=False)):  # so that list places stay true
            rest = _without(rest, each["loc"])
    try:
        return Settings(**rest), problems
    except ValidationError:
        return None, problems


def _place(location: tuple[int | str, ...]) -> str:
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "no such setting; remove it or check its spelling"
    if error["type"] == "missing":
        return "is missing; add it"
    return str(error["msg"]).removeprefix("Value error, ")


def _without(values: Any, location: tuple[int | str, ...]) -> Any:
    """Return a copy without the value at `location`; of a list, without the whole element.

    A faulty rule becomes one that denies, so that the rules after it keep their numbers.
    """
    head, *tail = location
    if isinstance(values, list) and isinstance(head, int):
        return [*values[:head], *values[head + 1 :]]
    if not isinstance(values, dict) or head not in values:
        return values
    if head == "rules" and tail and isinstance(values[head], list):
        rules = list(values[head])
        rules[int(tail[0])] = {"access": "deny"}
        return values | {head: rules}
    if tail and isinstance(values[head], dict | list):
        return values | {head: _without(values[head], tuple(tail))}
    return {name: value for name, value in values.items() if name != head}


def _base(problem: Problem) -> str:
    """Return the setting that a problem is about; of a rule the rule, of a list the list."""
    place = problem.place
    return place.partition("]")[0] if place.startswith("policy.") else place.partition("[")[0]


def _dangers(settings: Settings) -> list[Problem]:
    """Combinations that are refused, because somebody would come to harm."""
    return [
        *_lifetime_dangers(settings.session),
        *_cookie_dangers(settings.session.cookie),
        *_admin_dangers(settings.admin),
        *_check_dangers(settings.check),
        *_policy_dangers(settings.policy),
    ]


def _lifetime_dangers(session: Session) -> list[Problem]:
    found, lifetime = [], session.lifetime
    if lifetime.idle_ms > lifetime.absolute_ms:
        found.append(Problem("session.idle", "is longer than session.absolute; make it shorter"))
    if session.preset:
        found += [
            Problem(f"session.{name}", f"is longer than the preset {session.preset} allows")
            for name in beyond(lifetime, session.preset)
        ]
    return found


def _cookie_dangers(cookie: Cookie) -> list[Problem]:
    found = []
    prefixed = cookie.full_name.startswith(("__Host-", "__Secure-"))
    if prefixed and not cookie.secure:
        found.append(
            Problem(
                "session.cookie.secure",
                f"browsers refuse {cookie.full_name} without Secure; set secure = true, "
                "or for plain HTTP on a developer's machine choose a name without prefix",
            )
        )
    if cookie.same_site == "none" and not cookie.secure:
        found.append(Problem("session.cookie.same_site", '"none" needs secure = true'))
    return found


def _admin_dangers(admin: Admin) -> list[Problem]:
    found = []
    if bool(admin.tls_cert) != bool(admin.tls_key):
        found.append(Problem("admin.tls_cert", "needs admin.tls_key, and the other way round"))
    if not admin.tokens:
        found.append(
            Problem("admin.tokens", "is empty; make one with `gateway token` and add its line")
        )
    names = [token.name for token in admin.tokens]
    if len(set(names)) < len(names):
        found.append(Problem("admin.tokens", "two tokens have the same name; events name them"))
    open_to_all = [address for address in admin.listen if not is_local(address)]
    if open_to_all and not admin.tls_cert and not admin.insecure:
        found.append(
            Problem(
                "admin.listen",
                f"{', '.join(open_to_all)} is reachable from other machines without TLS; set "
                "admin.tls_cert and admin.tls_key, listen on 127.0.0.1, or set insecure = true",
            )
        )
    return found


def _check_dangers(check: Check) -> list[Problem]:
    found = [] if check.listen else [Problem("check.listen", "is empty; nobody could ask")]
    found += [
        Problem("check.trusted_proxies", f"{network} trusts everybody to speak for the proxy")
        for network in check.trusted_proxies
        if network.prefixlen == 0
    ]
    return found


def _policy_dangers(policy: Policy) -> list[Problem]:
    return [
        Problem(f"policy.rules[{number}].{field}", message)
        for number, rule in enumerate(policy.rules, 1)
        for field, message in problems_of(rule.spec())
    ]


def _warnings(settings: Settings) -> list[Problem]:
    found, cookie = [], settings.session.cookie
    if not cookie.secure:
        found.append(Problem("session.cookie.secure", "false: the token travels unencrypted"))
    if cookie.domain:
        found.append(Problem("session.cookie.domain", "set: every host below it gets the token"))
    if settings.admin.insecure:
        found.append(Problem("admin.insecure", "true: admin tokens travel unencrypted"))
    if settings.admin.without_token:
        open_to_all = " and ".join(settings.admin.without_token)
        found.append(Problem("admin.without_token", f"anybody who reaches it reads {open_to_all}"))
    if not settings.policy.rules:
        found.append(Problem("policy.rules", "is empty: every request is denied"))
    found += [
        Problem(place, "has no effect in this version")
        for place, is_set in (
            ("check.grpc_listen", settings.check.grpc_listen),
            ("check.workers", settings.check.workers > 1),
            ("pages.listen", settings.pages.listen),
            ("postgres.dsn", settings.postgres.dsn.get_secret_value()),
            ("geo.city", settings.geo.city),
            ("geo.asn", settings.geo.asn),
        )
        if is_set
    ]
    if settings.check.raw_utf8:
        found.append(Problem("check.raw_utf8", "true: identity headers may hold non-ASCII bytes"))
    return found


def is_local(address: str) -> bool:
    """Tell whether an address to listen on can be reached from this machine only."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
