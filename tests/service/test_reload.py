"""New rules while checks go on: in one process and in several, with the real service."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.embedded import EmbeddedValkey
from tests import servers

from .harness import Gateway, ask, log_lines, log_of, question, until
from .test_workers import WORKERS, children, metric, started

OPEN = '[[policy.rules]]\npath = "/gate/**"\naccess = "public"\n'
SHUT = OPEN.replace("public", "deny")
BAD = OPEN.replace("/gate/**", "gate").replace("public", "nobody")


class Rules:
    """The file of a running gateway, whose rules the test changes."""

    def __init__(self, gateway: Gateway, program: servers.Program) -> None:
        self.gateway = gateway
        self.program = program
        self.path = program.folder / "gateway.toml"
        self._rest = self.path.read_text()

    def write(self, rules: str, more: str = "") -> None:
        """Put these rules in front of the others; the file is replaced as a whole."""
        new = self.path.with_suffix(".new")
        new.write_text(self._rest.replace("[[policy.rules]]", rules + "[[policy.rules]]", 1) + more)
        new.replace(self.path)

    def ask(self, rules: str, more: str = "") -> None:
        """Change the rules, and do not wait until that is found."""
        attempts = self.reloads("ok") + self.reloads("error")
        self.write(rules, more)
        os.kill(self.program.pid, signal.SIGHUP)
        until(lambda: self.reloads("ok") + self.reloads("error") > attempts, "read")

    def reloads(self, result: str) -> float:
        return self.figures("gateway_policy_reloads_total").get(f'result="{result}"', 0)

    def versions(self) -> dict[str, float]:
        """Return how many processes decide by which rules."""
        return self.figures("gateway_policy_version")

    def figures(self, name: str) -> dict[str, float]:
        lines = self.gateway.admin("GET", "/metrics").body.decode().splitlines()
        found = [line.rpartition(" ") for line in lines if line.startswith(f"{name}{{")]
        return {key.partition("{")[2].rstrip("}"): float(value) for key, _, value in found}

    def status(self, target: str = "/gate/x") -> int:
        """Return what one check on a connection of its own is answered."""
        return ask(self.gateway.check_port, "GET", *question("auth_request", target)).status

    def logged(self, event: str) -> list[dict[str, Any]]:
        return [line for line in log_lines(log_of(self.program)) if line["event"] == event]


@pytest.fixture(scope="module")
def rules() -> Iterator[Rules]:
    with EmbeddedValkey(port=servers.free_port()) as valkey:
        gateway = Gateway(valkey.url, "[log]\ndenials = false\n")
        with gateway.running() as program:
            until(lambda: gateway.ready() == 200, "ready")
            yield Rules(gateway, program)


def test_a_changed_file_is_found(rules: Rules) -> None:
    """Without a signal, once it has rested; nothing else has to be done."""
    assert rules.status() == 401
    for text, status in ((OPEN, 200), (SHUT, 403)):
        rules.write(text)
        until(lambda status=status: rules.status() == status, "taken over")  # type: ignore[misc]
    applied = rules.logged("policy_applied")
    assert [line["rules"] for line in applied] == [3, 3]
    assert list(rules.versions()) == [f'version="{applied[-1]["version"]}"']


def test_a_signal_needs_no_wait(rules: Rules) -> None:
    """SIGHUP has the file read at once."""
    for text, status in ((OPEN, 200), (SHUT, 403), (OPEN, 200)):
        rules.ask(text)
        assert rules.status() == status


def test_a_bad_file_keeps_the_last_good_rules(rules: Rules) -> None:
    """It is counted and told with every problem; the next good file is taken again."""
    rules.ask(OPEN)
    good, errors = rules.versions(), rules.reloads("error")
    said = len(rules.logged("policy_rejected"))
    rules.ask(BAD)
    rules.ask("[[[")
    assert (rules.status(), rules.versions()) == (200, good)
    assert rules.reloads("error") == errors + 2
    first, second = rules.logged("policy_rejected")[said:]
    places = [each.partition(":")[0] for each in first["problems"]]
    assert places == ["policy.rules[1].access", "policy.rules[1].path"]
    assert "not valid TOML" in second["problems"][0]
    rules.ask(SHUT)
    assert rules.status() == 403


def test_a_file_that_is_gone_keeps_the_last_good_rules(rules: Rules) -> None:
    """One error for the loss, and none for each look after it."""
    rules.ask(OPEN)
    errors = rules.reloads("error")
    rules.path.unlink()
    until(lambda: rules.reloads("error") == errors + 1, "counted")
    assert rules.status() == 200
    rules.ask(SHUT)
    assert rules.reloads("error") == errors + 1


def test_other_settings_wait_for_a_restart(rules: Rules) -> None:
    """The rules are taken over, and the log says what was not."""
    before = len(rules.logged("restart_needed"))
    rules.ask(OPEN, '[pages]\nlogin_url = "https://login.example.com/?rd={url}"\n')
    assert rules.status() == 200
    (line,) = rules.logged("restart_needed")[before:]
    assert line["sections"] == ["pages"]
    assert ask(rules.gateway.check_port, "GET", *question("auth_request")).headers[
        "X-Auth-Login"
    ] is None  # fmt: skip


def test_a_shadow_rule_is_counted_and_logged(rules: Rules) -> None:
    """What it would do is told; what it would refuse passes."""
    rules.ask(f"{SHUT}shadow = true\n{OPEN}")
    assert rules.status() == 200
    figures = rules.figures("gateway_shadow_checks_total")
    assert figures == {'decision="allow",rule="1",shadow="forbidden"': 1}
    (line,) = rules.logged("shadow")
    assert (line["rule"], line["reason"], line["would_be"]) == (1, None, "denied_by_rule")


@contextmanager
def asking_all_the_time(rules: Rules, target: str) -> Iterator[list[int]]:
    """Ask from another thread, on new connections; the list has every status but 200."""
    wrong: list[int] = []
    done = threading.Event()

    def ask_on() -> None:
        while not done.is_set():
            status = rules.status(target)
            if status != 200:
                wrong.append(status)

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield wrong
    finally:
        done.set()
        thread.join()


def test_all_workers_switch_and_no_check_fails() -> None:
    """Each decides by one policy or the other; the metric says when all have the same."""
    with started() as (gateway, program):
        rules = Rules(gateway, program)
        with asking_all_the_time(rules, "/public/x") as wrong:
            for text, status in ((OPEN, 200), (SHUT, 403), (OPEN, 200)):
                rules.ask(text)
                until(lambda: rules.versions() == all_by_the_last(rules), "all")
                assert {rules.status() for _ in range(20)} == {status}
            rules.ask(BAD)
            assert rules.versions() == all_by_the_last(rules)
        assert wrong == []


def all_by_the_last(rules: Rules) -> dict[str, float]:
    """Return what the metric says when every worker has what was applied last."""
    version = rules.logged("policy_applied")[-1]["version"]
    return {f'version="{version}"': WORKERS}


def test_a_worker_that_comes_later_has_the_new_rules() -> None:
    """Whoever replaces a dead one does not go back to the rules of the start."""
    with started() as (gateway, program):
        rules = Rules(gateway, program)
        rules.ask(SHUT)
        for pid in children(program.pid):
            os.kill(pid, signal.SIGHUP)  # to a whole group, as terminals do: no worker ends by it
        until(lambda: list(rules.versions().values()) == [WORKERS], "all have it")
        assert rules.logged("worker_died") == []
        killed = children(program.pid)[0]
        os.kill(killed, signal.SIGKILL)
        until(lambda: killed not in children(program.pid), "gone")
        until(lambda: list(rules.versions().values()) == [WORKERS], "replaced", 30.0)
        assert {rules.status() for _ in range(20)} == {403}
        assert metric(gateway, "gateway_policy_version") == WORKERS


def test_a_hangup_before_the_start_is_done_does_no_harm(tmp_path: Path) -> None:
    """A reload that comes too early is not taken for an end."""
    gateway = Gateway(f"redis://127.0.0.1:{servers.free_port()}/0")
    with gateway.running() as program:
        os.kill(program.pid, signal.SIGHUP)
        until(lambda: Rules(gateway, program).logged("policy_applied") != [], "read")
        assert program.running
