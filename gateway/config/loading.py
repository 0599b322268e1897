"""Reads the configuration: TOML, overridden by `GW_SECTION__KEY`, secrets also from files.

`load` reports every problem at once, each with its place and what to do.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource, SettingsError

from ..errors import ConfigurationError, Problem
from .dangers import dangers_of, warnings_of
from .settings import ENV_PREFIX, Settings

# Settings of the commands, not of the service.
_ENV_OF_COMMANDS = frozenset({"GW_ADMIN_URL", "GW_ADMIN_TOKEN", "GW_CONFIG"})
_FILE_SUFFIX = "_file"
_UNKNOWN = "no such setting; remove it or check its spelling"
SECRETS = frozenset(
    {
        ("redis", "url"),
        ("redis", "password"),
        ("postgres", "dsn"),
        ("identity", "assertion", "keys"),
        ("alerts", "link_secret"),
    }
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, if they can be used, with their warnings; if not, all problems."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    warnings: tuple[Problem, ...]


def load(path: str | None, env: Mapping[str, str] | None = None) -> Loaded:
    """Read and check everything.

    Raises ConfigurationError when the file cannot be read or is not TOML.
    """
    values = read_toml(path) if path else {}
    environment = dict(os.environ if env is None else env)
    problems = _unknown_variables(environment)
    overrides, unreadable = _from_environment(environment)
    values = _merge(values, overrides)
    problems += [*unreadable, *_read_secret_files(values)]
    settings, found = _validate(values)
    problems += found
    if settings is not None:
        wrong = {_base(problem) for problem in problems}
        problems += [danger for danger in dangers_of(settings) if _base(danger) not in wrong]
    if settings is None or problems:
        # A default may stand where something is faulty: no warning is sure to be true.
        return Loaded(None, tuple(problems), ())
    return Loaded(settings, (), tuple(warnings_of(settings)))


def read_text(path: str) -> str:
    """Return what is in a text file; ConfigurationError if that cannot be told."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text") from None


def read_toml(path: str) -> dict[str, Any]:
    """Return the tables of a TOML file; ConfigurationError if it is none."""
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or a number of more digits than Python takes
        raise ConfigurationError(f"{path}: is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: is not valid TOML: nested too deeply") from None


def _from_environment(env: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the overrides; one by one, because one that is not JSON would hide the others."""
    found: dict[str, Any] = {}
    problems = []
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX) or name in _ENV_OF_COMMANDS:
            continue
        source = EnvSettingsSource(Settings, case_sensitive=False)
        source.env_vars = {name.lower(): env[name]}
        try:
            found = _merge(found, source())
        except SettingsError:
            problems.append(Problem(name, 'is not JSON; write a list as ["a", "b"]'))
    return found, problems


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
    for *sections, key in sorted(SECRETS):
        table = _copied(values, sections)
        if table is not None:
            problems += _read_secret(table, ".".join(sections), key)
    events = values.get("events")
    if isinstance(events, dict) and isinstance(events.get("webhooks"), list):
        values["events"], found = _with_webhook_secrets(events)
        problems += found
    return problems


def _copied(values: dict[str, Any], sections: list[str]) -> dict[str, Any] | None:
    """Return the table of nested sections if there is one, copied so that it can be changed."""
    table = values
    for section in sections:
        below = table.get(section)
        if not isinstance(below, dict):
            return None
        table[section] = below = dict(below)
        table = below
    return table


def _read_secret(table: dict[str, Any], section: str, key: str) -> list[Problem]:
    """Put into `key` of the table what the file holds that it names, if it names one."""
    if key + _FILE_SUFFIX not in table:
        return []
    problems = []
    place, path = f"{section}.{key}{_FILE_SUFFIX}", table.pop(key + _FILE_SUFFIX)
    if key in table:
        problems.append(Problem(place, f"{section}.{key} is set too; keep one of them"))
    try:
        table[key] = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, TypeError, ValueError) as error:
        # Not the value itself: it may be the secret, put in the wrong place.
        why = getattr(error, "strerror", None) or "not a path to a text file"
        problems.append(Problem(place, f"the file cannot be read: {why}"))
    else:
        if not table[key]:
            problems.append(Problem(place, "the file is empty; write the secret into it"))
    return problems


def _with_webhook_secrets(events: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    """Read `secrets_file` of each webhook: one secret in a line."""
    webhooks, problems = [], []
    for number, each in enumerate(events["webhooks"], 1):
        if isinstance(each, dict):
            table = dict(each)
            problems += _read_secret(table, f"events.webhooks[{number}]", "secrets")
            if "secrets" + _FILE_SUFFIX in each:
                table["secrets"] = str(table.get("secrets", "")).split()
            webhooks.append(table)
        else:
            webhooks.append(each)
    return events | {"webhooks": webhooks}, problems


def _validate(values: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    """Validate; where values are wrong, look at the rest without them, to report all at once."""
    # pydantic-settings takes these for options of its own.
    hidden = [name for name in values if name.startswith("_")]
    values = {name: value for name, value in values.items() if name not in hidden}
    settings, problems = _validate_known(values)
    return settings, [*(Problem(name, _UNKNOWN) for name in hidden), *problems]


def _validate_known(values: dict[str, Any]) -> tuple[Settings | None, list[Problem]]:
    try:
        return Settings(**values), []
    except ValidationError as error:
        found = error.errors(include_url=False)
        problems = [Problem(place_of(each["loc"]), what_is_wrong(each)) for each in found]
        rest = values
        for each in reversed(found):  # so that list places stay true
            rest = _without(rest, each["loc"])
    try:
        return Settings(**rest), problems
    except ValidationError:
        return None, problems


def place_of(location: tuple[int | str, ...]) -> str:
    """Return where a problem is, as an operator counts."""
    parts = [f"[{part + 1}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).lstrip(".")


def what_is_wrong(error: Any) -> str:
    """Return what pydantic complains of, and what to do."""
    if error["type"] == "extra_forbidden":
        return _UNKNOWN
    if error["type"] == "missing":
        return "is missing; add it"
    return str(error["msg"]).removeprefix("Value error, ")


def _without(values: Any, location: tuple[int | str, ...]) -> Any:
    """Return a copy without the value at `location`; of a list of tables, without the whole one.

    Of a rule only the value goes, so that it is still looked at, and those after it keep their
    numbers.
    """
    head, *tail = location
    if isinstance(values, list) and isinstance(head, int):
        return [*values[:head], *values[head + 1 :]]
    if not isinstance(values, dict) or head not in values:
        return values
    if head == "rules" and tail and isinstance(values[head], list):
        number, *within = tail
        rules = list(values[head])
        rules[int(number)] = _rule_without(rules[int(number)], tuple(within))
        return values | {head: rules}
    if tail and isinstance(values[head], dict | list):
        return values | {head: _without(values[head], tuple(tail))}
    return {name: value for name, value in values.items() if name != head}


def _rule_without(rule: Any, location: tuple[int | str, ...]) -> Any:
    """Return a rule without the value at `location`; never for use, only to be looked at."""
    rest = _without(rule, location) if location and isinstance(rule, dict) else {}
    if location and location[0] != "access":
        return rest
    # Whichever access the rest of it is written for.
    return rest | {"access": "public" if rest.get("preflight") is True else "session"}


def _base(problem: Problem) -> str:
    """Return the setting that a problem is about; of a list the whole list, but for the rules."""
    return re.sub(r"(?<!^policy\.rules)\[.*", "", problem.place)
