"""The command line with no wall but the connector's rule: ``python -m allod.gateway.cli.bare``.

For the proof of the air gap alone: a wall would keep an attempt from the eyes of whoever watches. It runs
only under a system call filter, as the watch puts one in force.
"""

from __future__ import annotations

import sys
from pathlib import Path

from allod.gateway.cli import USAGE, main


def watched() -> bool:
    """Tell whether a filter is in force on this process (``Seccomp: 2`` in proc_pid_status(5))."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return "\nSeccomp:\t2\n" in status


if __name__ == "__main__":
    if not watched():
        sys.stderr.write("without walls the command line runs only under a watch: `allod doctor --air-gap`\n")
        sys.exit(USAGE)
    main(walls=False)
