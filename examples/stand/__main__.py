"""`python -m stand`: the whole stand by hand, until Ctrl-C."""

from __future__ import annotations

import signal
import sys
import tempfile
from pathlib import Path

from stand.process import exit_on_sigterm
from stand.world import World


def main() -> None:
    """Bring the stand up, say where everything listens, wait for Ctrl-C, take everything down."""
    exit_on_sigterm()
    with tempfile.TemporaryDirectory(prefix="vectorops-stand-") as directory, World(Path(directory)) as world:
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
