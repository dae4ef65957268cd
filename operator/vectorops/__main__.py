"""The command line: `vectorops`, or `python -m vectorops`.

Thin: it reads options, calls one function, and turns the result into words and an exit code.

    0  done
    1  it went wrong, or `--check` found a difference; standard error says what
    2  the options or the environment are wrong

What a command needs is imported when it runs: `vectorops version` must not cost a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vectorops import __version__

FAILED, MISUSED = 1, 2

app = typer.Typer(
    name="vectorops",
    help="Operate pgvector search by declaration.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # a local may be a secret
)


@app.command()
def run() -> None:
    """Run the operator until SIGTERM. Settings: VECTOROPS_* in the environment; Kubernetes: KUBECONFIG, or in a pod."""
    from pydantic import ValidationError

    from vectorops.settings import Settings

    try:
        settings = Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_context=False, include_url=False):
            typer.echo(f"VECTOROPS_{str(problem['loc'][0]).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(MISUSED) from None
    from vectorops.app import main as serve

    serve(settings)


@app.command()
def manifests(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; name the files that differ.")] = False,
    root: Annotated[
        Path, typer.Option(help="Where crds/ and examples/ are.", exists=True, file_okay=False, resolve_path=True)
    ] = Path(),
) -> None:
    """Write CRDs and RBAC from the types of the kinds."""
    from vectorops.kinds import KINDS
    from vectorops.runtime import manifests as generated
    from vectorops.runtime.schema import NotAnApi

    try:
        differing = generated.check(KINDS, root) if check else generated.write(KINDS, root)
    except NotAnApi as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    for name in differing:
        typer.echo(f"{'differs' if check else 'written'}: {name}", err=check)
    if check and differing:
        typer.echo("run `vectorops manifests` and commit the result", err=True)
        raise typer.Exit(FAILED)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line."""
    app(prog_name="vectorops")


if __name__ == "__main__":
    main()
