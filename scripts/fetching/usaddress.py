"""Addresses of the United States, and their parts as JSON: a narrow task for a small language model.

Each address of the hand-labelled training set of a parser is a prompt; the answer names its parts in the order in which
they stand there, written as they stand there, without the commas between them. An address that names one kind of part
twice (an intersection's two streets) has no such answer and is left out, as is one that only differs in case or
punctuation from another. The split is by hash of the address. Addresses that the same parser could not read, which have
no labels, are prompts without answers; not those that say a word twice, as most of them name a part twice.

Source: https://github.com/datamade/usaddress, training/labeled.xml and unparseable.csv of its source distribution, MIT.
"""

import csv
import hashlib
import json
import re
import tarfile
import xml.etree.ElementTree as ElementTree
from itertools import groupby
from pathlib import Path

from fetching import pinned

ARCHIVE = "usaddress-0.5.16.tar.gz"
MADE = {
    "addresses/train.jsonl": "fe3599711424ab8f264cc073c463ad1d899b5e916e8395fdf7c064b169ab8e82",
    "addresses/validation.jsonl": "d0db0a2b882184b4d41b0792bd5a5f6262b23832f6afdf00d6f41eeb0ac5553e",
    "addresses/test.jsonl": "2a0c558cb0ebb0c93585f6eec972b5297523e0390af8afa88c8360ca35e04daf",
    "addresses/unlabelled.jsonl": "821c45df928b27df087917091567db3dedeb643174615181603bd19b2fa883c2",
}
SHA256 = {ARCHIVE: "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6", **MADE}
TWENTIETHS = {"test": 4, "validation": 1}  # of the addresses; train has the others
NAMES = {  # of parts: the standard's, shorter; what is not named here is the standard's name in snake case
    "AddressNumber": "number",
    "StreetNamePreDirectional": "direction",
    "StreetNamePreType": "road",
    "StreetName": "street",
    "StreetNamePostType": "street_type",
    "StreetNamePostDirectional": "quarter",
    "OccupancyType": "unit_type",
    "OccupancyIdentifier": "unit",
    "BuildingName": "building",
    "LandmarkName": "landmark",
    "USPSBoxType": "box_type",
    "USPSBoxID": "box",
    "USPSBoxGroupType": "route_type",
    "USPSBoxGroupID": "route",
    "PlaceName": "city",
    "StateName": "state",
    "ZipCode": "zip",
    "CountryName": "country",
}


def fetch() -> None:
    """Fetch the addresses; the source distribution is read, not installed."""
    options = ("--quiet", "--no-binary", "usaddress")
    pinned.make(MADE, lambda: contents(pinned.from_pypi(ARCHIVE, SHA256[ARCHIVE], "usaddress==0.5.16", *options)))


def contents(package: Path) -> dict[str, bytes]:
    """Return each file that is made."""
    with tarfile.open(package) as archive:
        folder = f"{package.name.removesuffix('.tar.gz')}/training"
        labelled = ElementTree.parse(archive.extractfile(f"{folder}/labeled.xml"))
        unlabelled = archive.extractfile(f"{folder}/unparseable.csv").read().decode("utf-8")
    rows: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    seen = set()
    for address in labelled.getroot():
        words = [((word.text or "").strip(), word.tag) for word in address]
        text = " ".join(word for word, _ in words)
        parts = [(name, " ".join(word for word, _ in same)) for name, same in groupby(words, key=lambda word: word[1])]
        if key(text) not in seen and len({name for name, _ in parts}) == len(parts):
            seen.add(key(text))
            answer = {NAMES.get(name) or in_snake_case(name): part.rstrip(",;") for name, part in parts}
            rows[split_of(text)].append({"prompt": text, "answer": json.dumps(answer, ensure_ascii=False)})
    found = (" ".join(line) for line in csv.reader(unlabelled.splitlines()))
    texts = [" ".join(text.replace("\\n", " ").split()) for text in found]
    rows["unlabelled"] = [{"prompt": text} for text in texts if text and not says_twice(text)]
    return {f"addresses/{split}.jsonl": pinned.json_lines(own) for split, own in rows.items()}


def key(text: str) -> str:
    """Return what two addresses have in common that differ in case and punctuation alone."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def says_twice(text: str) -> bool:
    """Return whether a word of more than three letters or digits stands twice in an address."""
    words = [word for word in key(text).split() if len(word) > 3]
    return len(set(words)) < len(words)


def split_of(text: str) -> str:
    """Return the split of an address, by hash."""
    number = int(hashlib.sha256(key(text).encode("utf-8")).hexdigest(), 16) % 20
    for split, twentieths in TWENTIETHS.items():
        if number < twentieths:
            return split
        number -= twentieths
    return "train"


def in_snake_case(name: str) -> str:
    """Return `NotAddress` as `not_address`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
