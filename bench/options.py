"""What the command line says."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

TABLES = ("checks", "nginx", "memory", "revocation")


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure."""

    rounds: int
    checks: int
    connections: int
    revocations: int
    only: str
    full: bool

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the tables to print; the name of a row means the first one."""
        if not self.only:
            return TABLES
        return (self.only,) if self.only in TABLES else ("checks",)

    def wants(self, row: str) -> bool:
        """Tell whether a row of the first table is to be measured."""
        return self.only in ("", *TABLES) or self.only in row


def parse(arguments: list[str] | None = None) -> Options:
    """Return the options, or end the program with what is wrong with them."""
    parser = argparse.ArgumentParser(prog="bench", description="What a check costs, and the rest.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--checks", type=int, default=8000, help="a row and round")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--revocations", type=int, default=300)
    parser.add_argument("--only", default="", metavar="NAME", help="a table "
                        f"({', '.join(TABLES)}), or rows whose name holds this")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="also a million sessions in Redis")
    return Options(**vars(parser.parse_args(arguments)))
