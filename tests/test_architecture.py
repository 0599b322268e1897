"""The order of the parts, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gateway"

# A part is a module or a folder directly in gateway/. It may import parts of a lower layer, and
# nothing else. Parts of one layer stand alone, except where a layer says otherwise.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"__init__", "model"}),
    frozenset({"decision", "errors"}),
    frozenset(
        {
            "alerts",
            "assertion",
            "binding",
            "links",
            "child",
            "conditions",
            "coverage",
            "credentials",
            "allowance",
            "devices",
            "identity",
            "lifetime",
            "patterns",
            "policy",
            "rules",
            "target",
        }
    ),
    frozenset({"judge", "ports"}),
    frozenset({"authorizer", "relay", "sessions", "sightings", "touches"}),
    frozenset(
        {
            "adapters",
            "admin",
            "audit",
            "embedded",
            "geo",
            "http_call",
            "migrate",
            "pages",
            "shadow",
            "sockets",
            "store",
            "telemetry",
            "webhooks",
        }
    ),
    frozenset({"config"}),
    frozenset(
        {
            "__main__",
            "app",
            "audit_commands",
            "cli",
            "conformance",
            "dead_letter_commands",
            "delivery",
            "demo",
            "explain",
            "listening",
            "reloading",
            "replay",
            "workers",
        }
    ),
)
RULES, EDGES, CONFIG, TOP = 2, 5, 6, 7
# Rules without I/O, and the commands, know each other inside their layer; a cycle is still caught.
TOGETHER = frozenset({1, RULES, TOP})
KNOW_NO_IO = range(EDGES)
IO_LIBRARIES = frozenset({"aiohttp", "asyncpg", "maxminddb", "pydantic", "redis"})

LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}


@dataclass(frozen=True)
class Import:
    """One import inside gateway/, as written."""

    path: Path
    line: int
    module: tuple[str, ...]  # absolute, ("gateway", "store", "keys")

    @property
    def place(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}"


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def sources(*folders: str) -> list[Path]:
    found = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    assert found, f"no Python files in {folders}"
    return found


def imports_of(path: Path) -> Iterator[Import]:
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, tuple(alias.name.split(".")))
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = above + tuple(node.module.split(".") if node.module else ())
            for alias in node.names:
                yield Import(path, node.lineno, (*base, alias.name))


def imported_part(found: Import) -> str | None:
    """Return the part of gateway/ that is imported; None for other packages."""
    if found.module[0] != "gateway":
        return None
    name = found.module[1] if len(found.module) > 1 else "__init__"
    # `from . import __version__` is a name of gateway/__init__.py, not a part.
    is_part = (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
    return name if is_part else "__init__"


def inner_imports() -> list[tuple[Import, str, str]]:
    """Return every import of one part by another: where, from, of."""
    return [
        (found, part_of(path), part)
        for path in sources("gateway")
        for found in imports_of(path)
        if (part := imported_part(found)) is not None and part != part_of(path)
    ]


def test_every_part_has_a_layer() -> None:
    unknown = {part_of(path) for path in sources("gateway")} - LAYER_OF.keys()
    assert not unknown, f"give these a layer in {Path(__file__).name}: {sorted(unknown)}"


def test_imports_point_down() -> None:
    wrong = [
        f"{found.place}: {part} (layer {LAYER_OF[part]}) imports {other} (layer {LAYER_OF[other]})"
        for found, part, other in inner_imports()
        if not may_import(part, other)
    ]
    assert not wrong, "\n".join(wrong)


def may_import(part: str, other: str) -> bool:
    above, below = LAYER_OF[part], LAYER_OF[other]
    return below < above or (below == above and above in TOGETHER)


@pytest.mark.parametrize(
    ("part", "other", "allowed"),
    [
        ("store", "ports", True),
        ("policy", "target", True),
        ("store", "admin", False),
        ("adapters", "telemetry", False),
        ("judge", "sessions", False),
        ("authorizer", "sessions", False),
        ("policy", "config", False),
        ("demo", "embedded", True),
    ],
)
def test_the_rule_about_layers_tells_right_from_wrong(part: str, other: str, allowed: bool) -> None:
    assert may_import(part, other) is allowed


def test_parts_import_one_another_in_no_circle() -> None:
    below: dict[str, set[str]] = {}
    for _, part, other in inner_imports():
        below.setdefault(part, set()).add(other)
    while leaves := {part for part in below if not below[part] & below.keys()}:
        below = {part: others for part, others in below.items() if part not in leaves}
    assert not below, f"among these parts there is a circle: {sorted(below)}"


def test_only_the_commands_know_the_configuration() -> None:
    wrong = [
        found.place
        for found, part, other in inner_imports()
        if other == "config" and LAYER_OF[part] != TOP
    ]
    assert not wrong, f"parts get plain values instead: {wrong}"


def test_the_rules_know_no_library_that_does_io() -> None:
    wrong = [
        f"{found.place}: {found.module[0]}"
        for path in sources("gateway")
        if LAYER_OF[part_of(path)] in KNOW_NO_IO
        for found in imports_of(path)
        if found.module[0] in IO_LIBRARIES
    ]
    assert not wrong, wrong


# --- tasks -----------------------------------------------------------------------------------

_STARTS_A_TASK = frozenset({"create_task", "ensure_future"})


def discarded_tasks(source: str) -> list[int]:
    """Return the lines that start a task and keep no hold of it."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and name_of(node.value.func) in _STARTS_A_TASK
        and not in_a_group(node.value.func)
    ]


def name_of(function: ast.expr) -> str:
    match function:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def in_a_group(function: ast.expr) -> bool:
    """A TaskGroup keeps its tasks itself; by custom it is called `group` or `tasks`."""
    match function:
        case ast.Attribute(value=ast.Name(id="group" | "tasks")):
            return True
    return False


def test_no_task_is_started_and_forgotten() -> None:
    """The loop holds tasks weakly: one that nobody keeps may vanish half way."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in sources("gateway", "tests")
        for line in discarded_tasks(path.read_text())
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("asyncio.create_task(work())", [1]),
        ("loop.create_task(work())", [1]),
        ("ensure_future(work())", [1]),
        ("task = asyncio.create_task(work())", []),
        ("kept.add(asyncio.create_task(work()))", []),
        ("group.create_task(work())", []),
    ],
)
def test_a_forgotten_task_is_recognised(source: str, lines: list[int]) -> None:
    assert discarded_tasks(source) == lines


# --- what no file may hold -------------------------------------------------------------------

# Written so that the patterns do not find themselves.
_FORBIDDEN = {
    "the address of a package registry": re.compile(
        r"(?:extra-)?inde[x]-url|find-lin[k]s|(?:pyp[i]|pythonhoste[d]|npmj[s])\.(?:org|com)"
    ),
    "a path of somebody's machine": re.compile(
        r"(?<![\w.$/}~-])/(?:(?:hom[e]|User[s])/(?!app/)[a-z]|roo[t]/)"
    ),
}


def tracked_files() -> list[Path]:
    """Return what the repository holds; in an unpacked archive, all that is there."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        return [path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts]
    names = listed.stdout.decode().strip("\0").split("\0")
    return [path for name in names if (path := ROOT / name).is_file()]


def forbidden_in(text: str) -> list[str]:
    return [what for what, pattern in _FORBIDDEN.items() if pattern.search(text)]


def test_no_file_names_a_registry_or_a_machine() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} holds {what}"
        for path in tracked_files()
        for what in forbidden_in(path.read_text(errors="replace"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("--index_-url https://registry.example/simple", 1),
        ("# from /ho_me/somebody/project", 1),
        ('PATH = "/ro_ot/.cache"', 1),
        ("aiohttp==3.14.5 --hash=sha256:00", 0),
        ("location /rooted/ { }  # https://example.com/home/page", 0),
    ],
)
def test_what_is_forbidden_is_recognised(text: str, found: int) -> None:
    assert len(forbidden_in(text.replace("_", ""))) == found
