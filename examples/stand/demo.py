"""`make demo`: the main job, on real parts, in front of your eyes.

Three thousand real products get real embeddings, an index is built and rebuilt, all while people search, and everything
shown is what `kubectl get` shows. Ends with a table and exit code 0; a promise that does not hold ends it with 1.
`KEEP=1` keeps everything running afterwards, until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from stand.embed import embed_query, vector_literal
from stand.process import exit_on_sigterm
from stand.searcher import Searcher
from stand.shop import fill_noisy_copy
from stand.traffic import Traffic, recent_queries
from stand.world import NAMESPACE, ROOT, World

PRODUCTS: Final = 3_000
NOISY: Final = 30_000
FILL: Final = "vfill/products-missing"
QUESTION: Final = "something to keep coffee hot"
LOOK_SECONDS: Final = 0.5
PATIENCE: Final = 4.0  # times what a step takes at most on two idle cores: with other work on both it was 2.5 times
PLAIN_SECONDS: Final = 5.0  # a plain log repeats the screen no more often than this
EXAMPLES: Final = ROOT / "examples"


class Disappointed(RuntimeError):
    """A promise did not hold; the message says which and what was seen."""


@dataclass
class Story:
    """What was seen, for the table at the end."""

    world: World
    console: Console
    started: float = field(default_factory=time.monotonic)
    rows: list[tuple[str, str]] = field(default_factory=list)

    def say(self, text: str) -> None:
        """One line of the story."""
        self.console.print(f"[bold]{time.monotonic() - self.started:5.0f} s[/bold]  {text}", highlight=False)

    def note(self, what: str, seen: str) -> None:
        """One row of the table at the end."""
        self.rows.append((what, seen))

    def watch(self, what: str, done: Callable[[], bool], timeout: float, resources: str = "vst,vidx,vfill") -> None:
        """Show `kubectl get` until `done`; raises Disappointed after `timeout` seconds, on a busy machine some more."""
        timeout *= PATIENCE
        deadline = time.monotonic() + timeout
        shown, shown_at = "", 0.0
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while not done():
                if time.monotonic() > deadline:
                    raise Disappointed(
                        f"{what}: not seen within {timeout:.0f} s\n{self.world.kubectl('get', resources)}"
                    )
                screen = self.world.kubectl("get", resources)
                if self.console.is_terminal:
                    live.update(Text(screen), refresh=True)
                elif screen != shown and time.monotonic() - shown_at >= PLAIN_SECONDS:
                    self.console.print(Text(screen))
                    shown, shown_at = screen, time.monotonic()
                time.sleep(LOOK_SECONDS)
        self.console.print(Text(self.world.kubectl("get", resources)))

    def field(self, resource: str, path: str) -> str:
        """One field of an object, by JSONPath; empty where there is none."""
        return self.world.kubectl("get", resource, f"-ojsonpath={{{path}}}")

    def reason(self, resource: str, condition: str) -> str:
        """The reason of a condition."""
        return self.field(resource, f'.status.conditions[?(@.type=="{condition}")].reason')

    def status(self, resource: str, condition: str) -> str:
        """The status of a condition."""
        return self.field(resource, f'.status.conditions[?(@.type=="{condition}")].status')

    def apply(self, *files: str) -> None:
        """kubectl apply of example files."""
        for name in files:
            self.say(f"kubectl apply -f examples/{name}")
            self.world.kubectl("apply", "-f", str(EXAMPLES / name))


def backfill(story: Story) -> None:
    """From no embedding to all of them, and the store's coverage from Critical to Healthy; planned, and with an ETA."""
    story.apply("vectorstore.yaml")
    story.watch("low coverage", lambda: story.reason("vst/shop", "CoverageHealthy") == "Critical", 60)
    story.note("coverage before", "Critical")
    began = time.monotonic()
    story.apply("embeddingbackfill.yaml", "vectorindex.yaml")
    etas: list[str] = []

    def ended() -> bool:
        etas.append(story.field(FILL, ".status.progress.eta"))
        return story.status(FILL, "Complete") == "True"

    story.watch("the backfill", ended, 600)
    took = time.monotonic() - began
    moving = list(dict.fromkeys(eta for eta in etas if eta))
    if not moving:
        raise Disappointed("the backfill never showed an ETA")
    done, cost = story.field(FILL, ".status.rows.done"), story.field(FILL, ".status.cost.usd")
    planned, billed = story.field(FILL, ".status.plan.tokens"), story.field(FILL, ".status.cost.tokens")
    story.note("embedded", f"{done} products in {took:.0f} s, {cost} USD at the store's price")
    story.note("tokens", f"{billed} billed, {planned} planned before")
    story.note("ETA seen", "  ".join(moving[-6:]))
    story.watch("coverage", lambda: story.reason("vst/shop", "CoverageHealthy") == "Healthy", 60)
    story.note("coverage after", "Healthy")
    story.watch("the index", lambda: story.status("vidx/products", "Ready") == "True", 120)


def search(story: Story) -> None:
    """A question in plain words finds the thermos."""
    vector = asyncio.run(embed_query(story.world.embeddings.base_url, QUESTION))
    found = asyncio.run(_nearest(story.world.shop.api_dsn, vector_literal(vector)))
    story.say(f'"{QUESTION}" finds: {", ".join(found[:5])}')
    if not any("thermos" in title.lower() for title in found):
        raise Disappointed(f'"{QUESTION}" found no thermos but {found}')
    story.note(f'"{QUESTION}"', next(t for t in found if "thermos" in t.lower()))


async def _nearest(dsn: str, vector: str) -> list[str]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT title FROM find_similar_products($1::text::vector, 0.5, 10, NULL, NULL, NULL)", vector
        )
        return [row["title"] for row in rows]
    finally:
        await connection.close()


def second_index(story: Story) -> None:
    """An index on 30,000 vectors."""
    count = asyncio.run(fill_noisy_copy(story.world.shop.operator_dsn, NOISY))
    story.say(f"product_vectors holds {count} vectors: the real ones, with noise")
    began = time.monotonic()
    story.apply("demo/product-vectors.yaml")
    story.watch("the second index", lambda: story.status("vidx/product-vectors", "Ready") == "True", 600, "vidx")
    story.note("index on 30,000 vectors", f"{time.monotonic() - began:.0f} s")


def rebuild(story: Story) -> None:
    """A changed parameter rebuilds the index of 30,000 vectors while searches go on; PROGRESS and ETA move."""
    vector = vector_literal(asyncio.run(embed_query(story.world.embeddings.base_url, QUESTION)))
    with Searcher(story.world.shop.operator_dsn, vector, table="product_vectors") as searcher:
        patch = '{"spec":{"hnsw":{"m":32,"efConstruction":200}}}'
        story.say(f"kubectl patch vidx/product-vectors --type=merge -p '{patch}'")
        began = time.monotonic()
        story.world.kubectl("patch", "vidx/product-vectors", "--type=merge", "-p", patch)
        seen = _moving(story, lambda: _has_m(story, 32), "the rebuild")
    searcher.check()
    took = time.monotonic() - began
    story.note("rebuild m 24 -> 32", f"{took:.0f} s, {searcher.searches} searches meanwhile, {searcher.errors} errors")
    story.note("PROGRESS and ETA seen", "  ".join(f"{p} {e}".strip() for p, e in seen[-6:]))
    story.note("searches without a valid index", str(searcher.unindexed))


def _has_m(story: Story, m: int) -> bool:
    definition = story.field("vidx/product-vectors", ".status.index.definition")
    return f"m='{m}'" in definition and story.status("vidx/product-vectors", "Rebuilding") != "True"


def _moving(story: Story, done: Callable[[], bool], what: str) -> list[tuple[str, str]]:
    """Watch until `done`; PROGRESS and ETA must each be seen with two values at least."""
    seen: list[tuple[str, str]] = []

    def looked() -> bool:
        progress = story.field("vidx/product-vectors", ".status.progress.summary")
        eta = story.field("vidx/product-vectors", ".status.progress.eta")
        if progress and (progress, eta) not in seen:
            seen.append((progress, eta))
        return done()

    story.watch(what, looked, 600, "vidx")
    if len({progress for progress, _ in seen}) < 2 or len({eta for _, eta in seen if eta}) < 2:
        raise Disappointed(f"PROGRESS and ETA were not seen to move: {seen}")
    return seen


def tune(story: Story) -> None:
    """The cheapest ef_search that finds what it should, measured."""
    story.apply("searchtuning.yaml")
    story.watch("the tuning", lambda: story.status("vtune/products", "Complete") == "True", 120, "vtune")
    chosen = [story.field("vtune/products", f".status.chosen.{what}") for what in ("efSearch", "lowerBoundPercent")]
    story.note("ef_search chosen", f"{chosen[0]}: finds surely {chosen[1]} % of the true neighbours")


def warm(story: Story) -> None:
    """The cache, cleared and warmed with what is searched most."""
    story.apply("cachewarmup.yaml")
    story.watch("the warm-up", lambda: story.status("vwarm/popular", "Complete") == "True", 180, "vwarm")
    before, after = (
        [story.field("vwarm/popular", f".status.{when}.{what}") for what in ("cacheHitRatePercent", "p95Milliseconds")]
        for when in ("before", "after")
    )
    story.note("cache warmed", f"hit rate {before[0]} -> {after[0]} %, p95 {before[1]} -> {after[1]} ms")


def roll(story: Story) -> None:
    """The search service rolls; the operator finds the new pods by itself."""
    story.say("kubectl rollout restart deployment/api")
    story.world.kubectl("rollout", "restart", "deployment/api")
    story.world.kubectl("rollout", "status", "deployment/api", f"--timeout={120 * PATIENCE:.0f}s")
    story.watch("the service again", lambda: story.status("vst/shop", "ServiceReachable") == "True", 30, "vst")
    restarts = story.world.cluster.kubectl(
        "get", "pods", "-A", "-l", "app.kubernetes.io/name=vectorops",
        "-ojsonpath={.items[*].status.containerStatuses[*].restartCount}",
    )  # fmt: skip
    story.note("rolled deployment/api", f"3 new pods, operator restarts: {restarts}")


def health(story: Story) -> None:
    """The store with all its columns: from the database, and from the service that people search."""
    paths = ("p95LatencyMilliseconds", "errorRatePercent", "cacheHitRatePercent", "poolUtilizationPercent")

    def figures() -> list[str]:
        return [story.field("vst/shop", f".status.observed.{path}") for path in paths]

    story.watch("the store's figures", lambda: all(figures()), 60, "vst")
    p95, errors, hits, used = figures()
    story.note("the store's health", f"p95 {p95} ms, errors {errors} %, cache {hits} %, pool {used} %")


def tell(story: Story) -> None:
    """The table at the end."""
    table = Table(show_header=False, title=f"vectorops demo, {time.monotonic() - story.started:.0f} s")
    for what, seen in story.rows:
        table.add_row(what, seen)
    story.console.print(table)


def main() -> int:
    """Run the story. Returns the exit code."""
    exit_on_sigterm()
    console = Console(width=None if sys.stdout.isatty() else 160)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vectorops-demo-") as directory:
        console.print("bringing the stand up: Kubernetes API, Postgres, embeddings, search service, operator")
        with World(Path(directory), products=PRODUCTS, operator_values={"statusPeriodSeconds": 1}) as world:
            story = Story(world, console, started=began)
            story.say("the stand is up")
            try:
                queries = asyncio.run(recent_queries(world.shop.admin_dsn))
                with Traffic(world.addresses, f"{NAMESPACE}/api:3000", world.api_token, queries) as traffic:
                    for chapter in (backfill, search, second_index, rebuild, tune, warm, roll, health):
                        chapter(story)
                story.note("searches over HTTP, all the while", traffic.told())
                if traffic.errors:
                    raise Disappointed(f"searches failed: {traffic.first_error}")
            except Disappointed as error:
                console.print(Text(f"FAILED: {error}\nthe operator's last words:\n{world.operator_log()}"))
                return 1
            tell(story)
            if os.environ.get("KEEP"):
                keep(console, world)
    console.print("everything was taken down")
    return 0


def keep(console: Console, world: World) -> None:
    """Leave everything running until Ctrl-C."""
    console.print("kept, until Ctrl-C:")
    for name, where in world.places():
        console.print(Text(f"{name:15} {where}"))
    console.print(Text(f"try: kubectl get vectorops,pods -n {NAMESPACE}"))
    signal.pause()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("taken down")
