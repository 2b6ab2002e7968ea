"""Texts to learn sentence vectors from: what functions say of their arguments, and WordNet's sentences.

Source: the files that `bfcl.py` and `wordnet.py` make; see there.
"""

from fetching import bfcl, pinned, wordnet

MADE = {"search/texts.txt": "115ceae66c485fc59009045eda2895ea80ea280da1ba5005d8a8e5514f233d00"}
SHA256 = MADE


def fetch() -> None:
    """Put the texts together."""
    bfcl.fetch()
    wordnet.fetch()
    pinned.make(MADE, contents)


def contents() -> dict[str, bytes]:
    """Return the file."""
    parts = ("bfcl/parameters.txt", "wordnet/examples.txt")
    return {"search/texts.txt": b"".join((pinned.DATA / name).read_bytes() for name in parts)}
