"""`python -m bench`: one run, its tables.

CPU per check comes from the kernel's accounting of the processes that answer, so a noisy neighbour
moves it less than throughput. Compare ratios within one run; absolute figures belong to one
machine.
"""

from __future__ import annotations

import os
import platform

from . import checks, memory, options, revocation, through_nginx

_TABLES = {
    "checks": ("Checks", checks.measure),
    "nginx": ("Through nginx", through_nginx.measure),
    "memory": ("Memory", memory.measure),
    "revocation": ("Revocation", revocation.measure),
}


def main() -> None:
    """Measure and print table after table."""
    chosen = options.parse()
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    print(f"{machine}; medians of {chosen.rounds} rounds, {chosen.connections} connections")
    for name in chosen.tables:
        title, measure = _TABLES[name]
        print(f"\n## {title}\n\n{measure(chosen)}", flush=True)


if __name__ == "__main__":
    main()
