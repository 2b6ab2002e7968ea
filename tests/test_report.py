import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_benchmark import NASTY
from report_values import evidence, nasty_evidence, place

from edgedistill.report.evidence import Evidence
from edgedistill.report.page import Table as PageTable
from edgedistill.report.page import missing, row
from edgedistill.report.stage import report
from edgedistill.report.svg import css, inline, panels
from edgedistill.results import BenchmarkResult, Report
from edgedistill.values import Corpus

VOID = {"meta", "br", "use", "path", "rect", "circle", "line", "polyline", "polygon"}
BUILDS = {"plain": evidence, "nasty": nasty_evidence}


class Page(HTMLParser):
    """What a browser would see: tags in pairs, identifiers, links, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if tag in VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data

    def named(self, name: str) -> list[str]:
        return [value for key, value in self.attributes if key == name]


def write(made: Evidence, folder: Path) -> Report:
    folder.mkdir(parents=True, exist_ok=True)
    return report(
        made.recipe,
        corpus=made.corpus,
        teacher=made.teacher,
        signals=made.signals,
        tokens=made.tokens,
        student=made.student,
        controls=made.controls,
        quantized=made.quantized,
        artifacts=made.artifacts,
        benchmark=made.benchmark,
        search=made.search,
        folder=folder,
    )


@pytest.fixture(scope="module", params=list(BUILDS))
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evidence, Report, Path]:
    made: Evidence = BUILDS[request.param]()
    folder = tmp_path_factory.mktemp(request.param)
    return made, write(made, folder), folder


def problems(html: str) -> list[str]:
    """Return what is wrong with a page that must open alone, offline, and show every text as text."""
    page = Page(html)
    found = [f"unbalanced {tag}" for tag in page.unbalanced + page.open]
    found += [f"{tag} element" for tag in ("script", "iframe", "img", "link", "object") if page.tags[tag]]
    found += [f"handler {name}" for name, _ in page.attributes if name.startswith("on")]
    identifiers = page.named("id")
    found += [f"identifier {name} twice" for name, times in Counter(identifiers).items() if times > 1]
    links = page.named("href") + page.named("xlink:href")
    found += [f"link {link}" for link in links if not link.startswith("#") or link[1:] not in identifiers]
    found += [f"url({name})" for name in re.findall(r"url\((?!#)([^)]*)", html)]
    found += [f"clip {name}" for name in re.findall(r"url\(#([^)]*)", html) if name not in identifiers]
    defined = set(re.findall(r"(--[\w-]+):", html))
    found += [f"undefined {name}" for name in set(re.findall(r"var\((--[\w-]+)\)", html)) - defined]
    found += ["a sentinel colour is left"] * ("#0a0b" in html)
    return found


def test_the_page_opens_alone(written: tuple[Evidence, Report, Path]) -> None:
    assert problems((written[2] / "report.html").read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "broken",
    [
        "<p><b></p>",
        "<script>1</script>",
        '<a href="#nowhere">x</a>',
        '<a href="https://example.org">x</a>',
        '<i id="a"></i><i id="a"></i>',
        "<p style='color:var(--never)'></p>",
        "<p onclick='x()'></p>",
        "<p>#0a0b01</p>",
    ],
)
def test_a_page_that_does_not_open_alone_is_found(broken: str) -> None:
    assert problems(f"<main>{broken}</main>")


def test_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    write(nasty_evidence(), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert NASTY in Page(html).text
    assert "<script" not in html
    assert "<script" not in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_every_number_has_a_source(written: tuple[Evidence, Report, Path]) -> None:
    made, _, folder = written
    html = (folder / "report.html").read_text(encoding="utf-8")
    for value in made.stage_values().values():
        assert f"<code>{value.folder.name}</code>" in html
    sections = html.split("<section")[1:]
    assert all('class="sources">From <code>' in section for section in sections)


def test_the_data_holds_every_value_that_the_pages_were_made_from(written: tuple[Evidence, Report, Path]) -> None:
    made, said, folder = written
    data = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert (data["schema_version"], data["verdict"], data["sentence"]) == (1, said.verdict, said.sentence)
    assert [line["verdict"] for line in data["budget"]] == [line.verdict for line in said.budget]
    assert {name: value["folder"] for name, value in data["values"].items()} == {
        name: value.folder.name for name, value in made.stage_values().items()
    }
    for kind, value in ((BenchmarkResult, made.benchmark), (Corpus, made.corpus)):
        name = kind.__name__.removesuffix("Result").lower()
        again = kind.model_validate_json(json.dumps(data["values"][name]["value"]))
        assert again.model_dump() == value.model_dump()


def test_sets_are_written_in_order(written: tuple[Evidence, Report, Path]) -> None:
    data = json.loads((written[2] / "report.json").read_text(encoding="utf-8"))
    signals = data["values"]["teacher"]["value"]["signals"]
    assert len(signals) == 6
    assert signals == sorted(signals), "a set's own order differs between processes"


def test_the_same_values_give_the_same_bytes_anywhere(tmp_path: Path) -> None:
    made = evidence()
    write(made, tmp_path / "one")
    for name, value in made.stage_values().items():
        place(value, name)
        value._folder = tmp_path / "elsewhere" / value.folder.name
    write(made, tmp_path / "other")
    for file in ("report.html", "report.md", "report.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "other" / file).read_bytes()
        assert str(tmp_path) not in (tmp_path / "other" / file).read_text(encoding="utf-8")


def test_verdict_and_sentence_come_first(written: tuple[Evidence, Report, Path]) -> None:
    _, said, folder = written
    for file in ("report.html", "report.md"):
        text = Page((folder / file).read_text(encoding="utf-8")).text
        assert said.verdict in text[: text.index("smaller")]
    assert said.verdict in (folder / "report.md").read_text(encoding="utf-8").splitlines()[0]


def test_every_table_row_of_the_release_notes_has_as_many_cells_as_its_head(
    written: tuple[Evidence, Report, Path],
) -> None:
    lines = (written[2] / "report.md").read_text(encoding="utf-8").splitlines()
    widths: list[int] = []
    for line in lines:
        widths.append(len(re.findall(r"(?<!\\)\|", line)) if line.startswith("|") else 0)
    starts = [i for i in range(1, len(widths)) if widths[i] and not widths[i - 1]]
    assert len(starts) >= 3
    for start in starts:
        rows = []
        for width in widths[start:]:
            if not width:
                break
            rows.append(width)
        assert len(rows) >= 3
        assert len(set(rows)) == 1


def test_an_empty_cell_says_why(written: tuple[Evidence, Report, Path]) -> None:
    html = (written[2] / "report.html").read_text(encoding="utf-8")
    cells = re.findall(r"<td[^>]*>.*?</td>", html, flags=re.DOTALL)
    empty = [cell for cell in cells if "—" in cell]
    assert empty
    assert all('title="' in cell and "<sup>" in cell for cell in empty)


def test_equal_reasons_share_a_note() -> None:
    table = PageTable("", ("a", "b", "c"), (row("x", missing("why"), missing("other")), row("y", missing("why"), "1")))
    assert table.notes == ("why", "other")
    assert [table.note_of(cell) for cell in table.rows[1].cells] == [0, 1, 0]


def test_an_emulated_target_is_labelled_next_to_its_numbers(tmp_path: Path) -> None:
    write(nasty_evidence(), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'data-column="p50 (emulated)"' in html
    assert 'data-column="Peak memory (emulated)"' in html
    assert "emulated" in html[: html.index("<nav")]
    write(evidence(), tmp_path)
    assert "emulated" not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_chart_keeps_its_text_and_takes_the_page_colours() -> None:
    with panels(100) as (figure, (axes,)):
        axes.set_xlabel("<b> & $x$")
        axes.plot([1, 2], [1, 2], "o")
        svg = inline(figure, "one")
    assert "&lt;b&gt; &amp; $x$" in svg
    assert css("#0a0b02") in svg
    assert set(re.findall(r' id="([^"]+)"', svg)) == {
        name for name in re.findall(r' id="([^"]+)"', svg) if name.startswith("one-")
    }
    assert "DejaVu" not in svg


def test_a_vocabulary_of_its_own_and_a_doubtful_size_are_told(tmp_path: Path) -> None:
    for name, told in (("plain", False), ("nasty", True)):
        write(BUILDS[name](), tmp_path / name)
        page = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        for said in ("12,380 of 30,522 tokens of its own tokenizer", "672 of 1,000", "To think over: the student is"):
            assert (said in page) == told, said
