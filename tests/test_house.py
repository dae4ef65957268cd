"""The house rules: what keeps the tree small and every kind complete. Each failure names the file and the rule.

Read from the sources (syntax trees and texts), so a broken module is still judged. Style is ruff's, types are mypy's,
the walls between layers are import-linter's (`make lint`); here is what none of them can say.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "operator" / "vectorops"
ROOMS = sorted(folder.name for folder in (PACKAGE / "kinds").iterdir() if any(folder.glob("*.py")))
ROOM_FILES = ("__init__.py", "resource.py", "observe.py", "plan.py", "act.py", "queries.sql")

MAX_FILE_LINES = 300  # what a person reads in one sitting
MAX_FUNCTION_LINES = 40  # one screen
MAX_HANDLER_LINES = 15  # a Kopf handler wakes somebody and does nothing else
HEAVY = {"openai", "numpy", "kubernetes"}  # each costs a good part of a second and many MB; imported where used

Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def tree(source: Path) -> ast.Module:
    return ast.parse(source.read_text(), filename=str(source))


def nodes(kind: Any) -> Iterator[tuple[str, Any]]:
    """Every node of that kind under operator/, with `file:line`."""
    for source in sources():
        for node in ast.walk(tree(source)):
            if isinstance(node, kind):
                yield f"{source.relative_to(ROOT)}:{node.lineno}", node


def nothing_in(findings: list[str]) -> None:
    assert not findings, "\n".join(["found:", *findings])


def body_lines(function: Function) -> int:
    """From the first statement to the last; signature and docstring do not count."""
    body = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_kopf_handler(function: Function) -> bool:
    return any(ast.unparse(decorator).startswith("kopf.") for decorator in function.decorator_list)


def top_level_imports(body: list[ast.stmt]) -> Iterator[tuple[int, str]]:
    """What is imported as soon as the module is; a block for the type checker is not."""
    for statement in body:
        match statement:
            case ast.Import(names=names):
                yield from ((statement.lineno, name.name) for name in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield statement.lineno, module
            case ast.If(test=test, orelse=orelse) if ast.unparse(test).endswith("TYPE_CHECKING"):
                yield from top_level_imports(orelse)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                pass
            case _:
                for block in ("body", "orelse", "finalbody"):
                    yield from top_level_imports(getattr(statement, block, []))
                for handler in getattr(statement, "handlers", []):
                    yield from top_level_imports(handler.body)


@cache
def files_of_the_tree() -> tuple[Path, ...]:
    """What is in git or would be with `git add .`; without git, the test cannot tell a source from a build."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git work tree")
    return tuple(path for name in listing.stdout.split("\0") if name and (path := ROOT / name).is_file())


# -- small, and opening with its strategy ---------------------------------------


def test_a_file_has_at_most_300_lines() -> None:
    counts = {file: len(file.read_text().splitlines()) for file in [*sources(), *PACKAGE.rglob("*.sql")]}
    nothing_in([f"{file.relative_to(ROOT)}: {n} lines" for file, n in counts.items() if n > MAX_FILE_LINES])


def test_a_function_has_at_most_40_lines_beside_its_docstring() -> None:
    counts = [(where, node.name, body_lines(node)) for where, node in nodes(Function)]
    nothing_in([f"{where} {name}: {n} lines" for where, name, n in counts if n > MAX_FUNCTION_LINES])


def test_a_kopf_handler_has_at_most_15_lines() -> None:
    handlers = [(where, node) for where, node in nodes(Function) if is_kopf_handler(node)]
    nothing_in([f"{where} {node.name}" for where, node in handlers if body_lines(node) > MAX_HANDLER_LINES])


def test_every_module_opens_with_a_docstring() -> None:
    nothing_in([str(source.relative_to(ROOT)) for source in sources() if not ast.get_docstring(tree(source))])


def test_nothing_is_left_to_do_in_comments() -> None:
    texts = {file: file.read_text() for file in [*sources(), *PACKAGE.rglob("*.sql")]}
    nothing_in([str(file.relative_to(ROOT)) for file, text in texts.items() if re.search(r"\b(TODO|FIXME)\b", text)])


def test_only_the_command_line_prints() -> None:
    calls = [where for where, node in nodes(ast.Call) if isinstance(node.func, ast.Name) and node.func.id == "print"]
    nothing_in([where for where in calls if "__main__.py" not in where])


def test_there_are_no_global_statements() -> None:
    nothing_in([where for where, _ in nodes(ast.Global)])


def test_only_a_transaction_that_can_be_left_is_begun() -> None:
    """asyncpg's own waits for a silent server for ever, whoever cancels it."""
    calls = [(where, node.func) for where, node in nodes(ast.Call)]
    begun = [where for where, func in calls if isinstance(func, ast.Attribute) and func.attr == "transaction"]
    nothing_in([where for where in begun if "dead_peers.py" not in where])


def test_there_is_no_bare_except() -> None:
    nothing_in([where for where, node in nodes(ast.ExceptHandler) if node.type is None])


def test_the_source_root_does_not_shadow_the_standard_library() -> None:
    assert not (ROOT / "operator" / "__init__.py").exists()


# -- heavy libraries are imported where they are used ------------------------------


def test_no_module_imports_a_heavy_library_at_its_top() -> None:
    found = [
        f"{source.relative_to(ROOT)}:{line} {name}"
        for source in sources()
        for line, name in top_level_imports(tree(source).body)
        if name.split(".")[0] in HEAVY
    ]
    nothing_in(found)


def test_importing_the_whole_application_loads_no_heavy_library() -> None:
    # kubernetes.aio and not kubernetes: Kopf loads the models of the latter by itself, wherever it is installed
    heavy = {"openai", "numpy", "kubernetes.aio"}
    script = f"import sys, vectorops.app; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env={"PYTHONPATH": "operator"}, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr


# -- every kind is complete ---------------------------------------------------------


def kind_of(room: str) -> Any:
    from vectorops.kinds import KINDS

    kinds = {kind.room: kind for kind in KINDS}
    name = f"vectorops.kinds.{room}"
    assert name in kinds, f"{name} is missing from KINDS in vectorops/kinds/__init__.py"
    return kinds[name]


def kinds_of_manifests(folder: str) -> set[str]:
    """The `kind` of every document in `folder`/*.yaml; for a CRD the kind that it defines."""
    documents = [doc for file in (ROOT / folder).glob("*.yaml") for doc in yaml.safe_load_all(file.read_text()) if doc]
    return {
        doc["spec"]["names"]["kind"] if doc["kind"] == "CustomResourceDefinition" else doc["kind"] for doc in documents
    }


def test_every_kind_has_its_room() -> None:
    from vectorops.kinds import KINDS

    assert sorted(kind.room for kind in KINDS) == [f"vectorops.kinds.{room}" for room in ROOMS]


def test_names_are_used_once() -> None:
    from vectorops.kinds import KINDS

    names = [name for kind in KINDS for name in (kind.names.kind, kind.names.plural, kind.names.short)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_has_the_same_files_as_every_other(room: str) -> None:
    nothing_in([file for file in ROOM_FILES if not (PACKAGE / "kinds" / room / file).is_file()])


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_called_like_its_kind(room: str) -> None:
    assert kind_of(room).names.kind.lower() == room


@pytest.mark.parametrize("room", ROOMS)
def test_a_kind_has_its_crd(room: str) -> None:
    kind = kind_of(room).names.kind
    assert kind in kinds_of_manifests("crds"), f"no crds/*.yaml defines {kind}: run `make manifests`"


@pytest.mark.parametrize("room", ROOMS)
def test_a_kind_has_an_example(room: str) -> None:
    kind = kind_of(room).names.kind
    assert kind in kinds_of_manifests("examples"), f"no examples/*.yaml has a document with `kind: {kind}`"


@pytest.mark.parametrize("room", ROOMS)
def test_a_kind_has_a_page_that_explains_each_of_its_reasons(room: str) -> None:
    page = ROOT / "docs" / "kinds" / f"{room}.md"
    assert page.is_file(), f"docs/kinds/{room}.md is missing"
    text = page.read_text()
    reasons = [str(reason.value) for reason in kind_of(room).reasons]
    nothing_in([reason for reason in reasons if not re.search(rf"\b{re.escape(reason)}\b", text)])


def test_every_reason_stands_in_the_table_of_what_gitops_tools_read() -> None:
    from vectorops.errors import Reason
    from vectorops.kinds import KINDS

    file = ROOT / "tests" / "gitops" / "reasons.yaml"
    table = yaml.safe_load(file.read_text())
    enums = {"any": Reason} | {kind.names.kind: kind.reasons for kind in KINDS}
    wanted = {(name, str(reason), str(reason.means)) for name, enum in enums.items() for reason in enum}
    found = {(name, reason, means) for name in table for means, reasons in table[name].items() for reason in reasons}
    nothing_in([f"not in {file.relative_to(ROOT)}: {row}" for row in sorted(wanted - found)])
    nothing_in([f"too much in {file.relative_to(ROOT)}: {row}" for row in sorted(found - wanted)])


@pytest.mark.parametrize("room", ROOMS)
def test_the_plan_of_a_kind_has_its_tests(room: str) -> None:
    assert (ROOT / "tests" / "kinds" / room / "test_plan.py").is_file(), f"tests/kinds/{room}/test_plan.py is missing"


# -- SQL looks like SQL --------------------------------------------------------------


def test_every_named_statement_has_its_own_name_and_says_why() -> None:
    problems = []
    for file in sorted(PACKAGE.rglob("*.sql")):
        lines, seen = [*file.read_text().splitlines(), ""], set()
        for number, line in enumerate(lines, start=1):
            if not (found := re.match(r"-- name:\s*(\S*)", line)):
                continue
            if not re.match(r"-- (?!name:)\S", lines[number]):
                problems.append(f"{file.relative_to(ROOT)}:{number} {found[1]}: the next line does not say why")
            if found[1] in seen:
                problems.append(f"{file.relative_to(ROOT)}:{number} {found[1]}: named twice")
            seen.add(found[1])
    nothing_in(problems)


# -- the tree belongs to no machine ----------------------------------------------------


def test_no_file_names_a_path_of_some_machine() -> None:
    path = re.compile(rb"(?<![\w./:~-])/(root|home|work|Users)/")
    contents = ((file, file.read_bytes()) for file in files_of_the_tree())
    nothing_in([str(file.relative_to(ROOT)) for file, data in contents if b"\0" not in data and path.search(data)])


@pytest.mark.parametrize("file", sorted((ROOT / "requirements").iterdir()), ids=lambda file: file.name)
def test_requirements_name_no_index_and_no_url(file: Path) -> None:
    source = re.compile(r"^\s*(-i|-f|--(extra-)?index-url|--find-links|--trusted-host)\b|://", re.MULTILINE)
    assert not source.search(file.read_text())


def requirement_names(file: str) -> set[str]:
    lines = (ROOT / "requirements" / file).read_text().splitlines()
    return {found[1].lower() for line in lines if (found := re.match(r"([A-Za-z0-9][\w.-]*)", line))}


@pytest.mark.parametrize("name", ["runtime", "dev", "go"])
def test_pinned_requirements_are_those_asked_for(name: str) -> None:
    missing = requirement_names(f"{name}.in") - requirement_names(f"{name}.txt")
    assert not missing, f"missing from requirements/{name}.txt, run `make requirements`: {sorted(missing)}"


def test_the_package_depends_on_what_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=!~;\[ ]", dependency)[0] for dependency in project["dependencies"]}
    assert declared == requirement_names("runtime.in")
