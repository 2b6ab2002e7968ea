"""Texts that people rated from -4 to 4: reviews of films and goods, tweets, editorials.

Source: Hutto, Gilbert 2014, "VADER", https://github.com/cjhutto/vaderSentiment; see its licence.
"""

import io
import tarfile
from pathlib import Path

from fetching import pinned

RATINGS = "vaderSentiment-3.3.2.tar.gz"
MADE = {
    "vader/movie.jsonl": "4f397df6afc7a9071f9eacf761d083243d38f5e3d8879b279dd2fe69735fbf68",
    "vader/amazon.jsonl": "de65a1fe9a3c7e77b1b82877ea2908e6c0929a8cfe8bf0e08a865f2ab704ca46",
    "vader/tweets.jsonl": "1f50998a45a773f93c61af06a0b04f702dc7b98d9b82744a0c50517248eba97a",
    "vader/news.jsonl": "f0574ce437a90fbdd015825f03191eeb7591c9c615e2bbb84402f9bd06cbda40",
}
SHA256 = {RATINGS: "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9", **MADE}
SOURCES = {
    "vader/movie.jsonl": "movieReviewSnippets",
    "vader/amazon.jsonl": "amazonReviewSnippets",
    "vader/tweets.jsonl": "tweets",
    "vader/news.jsonl": "nytEditorialSnippets",
}


def fetch() -> None:
    """Fetch the rated texts; the sources are not in the wheel."""
    options = ("--quiet", "--no-binary", "vaderSentiment")
    pinned.make(MADE, lambda: contents(pinned.from_pypi(RATINGS, SHA256[RATINGS], "vaderSentiment==3.3.2", *options)))


def contents(sdist: Path) -> dict[str, bytes]:
    """Return each file that is made."""
    with tarfile.open(sdist) as outer:
        inner = next(name for name in outer.getnames() if name.endswith("hutto_ICWSM_2014.tar.gz"))
        with tarfile.open(fileobj=io.BytesIO(outer.extractfile(inner).read())) as archive:
            folder = "hutto_ICWSM_2014"
            return {
                name: labelled(archive.extractfile(f"{folder}/{source}_GroundTruth.txt").read().decode("utf-8"))
                for name, source in SOURCES.items()
            }


def labelled(ratings: str) -> bytes:
    """Return the texts that people rated clearly: the sign is the label, below 0.5 it is dropped.

    Args:
        ratings: lines of id, mean rating and text, between tabs.
    """
    rows = (line.rstrip("\r").split("\t", 2) for line in ratings.split("\n") if line.strip())
    clear = ((float(rating), text) for _id, rating, text in rows if abs(float(rating)) >= 0.5)
    return pinned.json_lines(
        {"text": text, "label": "positive" if rating > 0 else "negative"} for rating, text in clear
    )
