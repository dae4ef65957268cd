"""The command line: `vectorops`, or `python -m vectorops`.

Thin: it reads options, calls one function, and turns the result into words and an exit code.

    0  done
    1  it went wrong, or `--check` found a difference; standard error says what
    2  the options or the environment are wrong

What a command needs is imported when it runs: `vectorops version` must not cost a second.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    from vectorops.clients.hosts.rules import RulesInvalid
    from vectorops.clients.service_addresses import AddressesInvalid

    try:
        serve(settings)
    except RulesInvalid as error:
        typer.echo(f"VECTOROPS_ALLOWED_HOSTS: {error}", err=True)
        raise typer.Exit(MISUSED) from None
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
def plot(
    name: Annotated[str | None, typer.Argument(help="Name of a SearchTuning.")] = None,
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Where it is.")] = "default",
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the object from here, as `kubectl get -o yaml` wrote it.")
    ] = None,
    svg: Annotated[Path | None, typer.Option(help="Write a picture here instead of the terminal.")] = None,
) -> None:
    """Draw the curve of a SearchTuning: recall and cost by hnsw.ef_search."""
    from rich.console import Console

    from vectorops.kinds.searchtuning.plotting import NothingToPlot, as_svg, curve_of, in_terminal

    if (name is None) == (file is None):
        typer.echo("Name a SearchTuning, or give --file.", err=True)
        raise typer.Exit(MISUSED)
    try:
        curve = curve_of(_read_object(file) if file is not None else _get_object(namespace, name or ""))
    except NothingToPlot as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(FAILED) from None
    if svg is None:
        Console(highlight=False).print(in_terminal(curve))
        return
    try:
        svg.write_bytes(as_svg(curve))
    except OSError as error:
        typer.echo(f"{svg}: {error.strerror}", err=True)
        raise typer.Exit(FAILED) from None
    typer.echo(f"written: {svg}")


def _read_object(file: Path) -> dict[str, Any]:
    """An object from a YAML or JSON file; ends the command with what is wrong with it."""
    import yaml

    try:
        body = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        typer.echo(f"{file}: cannot be read ({type(error).__name__})", err=True)
        raise typer.Exit(FAILED) from None
    if not isinstance(body, dict):
        typer.echo(f"{file}: is no object: write it with `kubectl get vtune NAME -o yaml`", err=True)
        raise typer.Exit(FAILED)
    return body


def _get_object(namespace: str, name: str) -> dict[str, Any]:
    """A SearchTuning from the cluster; ends the command when it is not there or may not be read."""
    import asyncio

    from vectorops.clients.kubernetes import Kubernetes
    from vectorops.errors import OperatorError

    async def get() -> dict[str, Any] | None:
        kubernetes = Kubernetes()
        try:
            return await kubernetes.get("searchtunings", namespace, name)
        finally:
            await kubernetes.close()

    try:
        body = asyncio.run(get())
    except OperatorError as error:
        typer.echo(f"{error.reason}: {error.message}", err=True)
        raise typer.Exit(FAILED) from None
    if body is None:
        typer.echo(f"There is no SearchTuning {name} in namespace {namespace}; give its namespace with -n.", err=True)
        raise typer.Exit(FAILED)
    return body


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
