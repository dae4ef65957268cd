"""`python -m vectorops` and the installed command `vectorops`. Refuses to hold anything: see `cli.py`."""

from __future__ import annotations

from vectorops.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="vectorops")


if __name__ == "__main__":
    main()
