"""The command `python -m gateway.demo`."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import ExitStack
from types import FrameType

import click

from ..errors import ConfigurationError
from . import words
from .ports import choose
from .programs import start

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Somebody wants the demo to end. Not an Exception: nothing on the way may swallow it."""


@click.command()
@click.option(
    "--ports",
    type=click.Choice(["usual", "0"]),
    default="usual",
    help="usual: 8000, 8080, 9180 and 9182 where they are free; 0: any free ones.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one line for programs.")
def main(ports: str, as_json: bool) -> None:
    """Start Valkey, the gateway, an application and nginx; Ctrl-C ends all."""
    for number in _SIGNALS:
        signal.signal(number, _stop)
    for name in [name for name in os.environ if name.startswith("GW_")]:
        del os.environ[name]  # settings of another gateway are not meant for this one
    try:
        _run(usual=ports == "usual", as_json=as_json)
    except Stopped:
        print("demo: all ended", file=sys.stderr)
    except ConfigurationError as error:
        print(f"demo: {error}", file=sys.stderr)
        sys.exit(1)


def _run(*, usual: bool, as_json: bool) -> None:
    with ExitStack() as stack:
        running = start(choose(usual=usual), stack)
        # The first to run at the end: a second Ctrl-C must not leave a program behind.
        stack.callback(_ignore_signals)
        print(words.for_programs(running) if as_json else words.for_people(running), flush=True)
        while running.failure is None:
            time.sleep(0.2)
        raise ConfigurationError(running.failure)


def _stop(number: int, frame: FrameType | None) -> None:
    del number, frame
    _ignore_signals()
    raise Stopped


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if __name__ == "__main__":
    main()
