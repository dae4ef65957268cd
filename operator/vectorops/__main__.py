"""The command line: `vectorops`, or `python -m vectorops`.

Thin: it reads options, calls one function, and turns the result into words and an exit code.

    0  done
    1  it went wrong, or `--check` found a difference; standard error says what
    2  the options or the environment are wrong

What a command needs is imported when it runs: `vectorops version` must not cost a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vectorops import __version__

if TYPE_CHECKING:
    from vectorops.settings import Settings

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
    settings = _settings()
    from vectorops.app import main as serve
    from vectorops.clients.service_addresses import AddressesInvalid

    try:
        serve(settings)
    except AddressesInvalid as error:
        typer.echo(f"VECTOROPS_SERVICE_ADDRESSES: {error}", err=True)
        raise typer.Exit(MISUSED) from None


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
def release(
    namespace: Annotated[
        list[str] | None,
        typer.Option(help="Only here; may be repeated. Default: VECTOROPS_WATCH_NAMESPACES, else all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Change nothing; name what would be released.")] = False,
) -> None:
    """Let go of every object before an uninstall: our finalizer goes, and nothing new is begun until told otherwise."""
    import asyncio

    from vectorops.clients.kubernetes import Kubernetes
    from vectorops.errors import OperatorError
    from vectorops.kinds import KINDS
    from vectorops.runtime.release import release_all

    async def let_go() -> None:
        kubernetes = Kubernetes()
        try:
            where = tuple(namespace or _settings().namespaces)
            async for name in release_all(kubernetes, KINDS, where, dry_run=dry_run):
                typer.echo(f"{'would be released' if dry_run else 'released'}: {name}")
        finally:
            await kubernetes.close()

    try:
        asyncio.run(let_go())
    except OperatorError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(FAILED) from None


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _settings() -> Settings:
    """The settings from the environment; a wrong one is named, never echoed, and ends the command."""
    from pydantic import ValidationError

    from vectorops.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        for problem in error.errors(include_input=False, include_context=False, include_url=False):
            typer.echo(f"VECTOROPS_{str(problem['loc'][0]).upper()}: {problem['msg']}", err=True)
        raise typer.Exit(MISUSED) from None


def main() -> None:
    """Run the command line."""
    app(prog_name="vectorops")


if __name__ == "__main__":
    main()
