"""`python -m stand`: the whole stand by hand, until Ctrl-C. BARE=1 leaves the operator for you to install."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from pathlib import Path

from stand.process import exit_on_sigterm
from stand.world import World


def main() -> None:
    """Bring the stand up, say where everything listens, wait for Ctrl-C, take everything down."""
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="vectorops-stand-") as directory:
        bring_up(Path(directory))


def bring_up(directory: Path) -> None:
    """Everything up, until a signal."""
    with World(directory, operator=not os.environ.get("BARE")) as world:
        for name, where in world.places():
            sys.stdout.write(f"{name:15} {where}\n")
        sys.stdout.write("running until Ctrl-C\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.stdout.write("taken down\n")
