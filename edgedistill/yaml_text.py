"""YAML text to plain values, with the line of every key, and every problem that the text alone shows.

Words are read as YAML 1.2's core schema reads them, not as PyYAML's 1.1: `no` and `on` are text, `1e-4` is a number,
`010` is ten. Aliases and tags are refused: a recipe is written out, so that a reader sees what a build will do.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong in a file."""

    line: int
    key: str
    text: str


@dataclass(frozen=True)
class Document:
    """What a YAML file says, and where."""

    value: Any
    lines: Mapping[KeyPath, int]  # 1-based; of the key in a mapping, of the item in a list
    problems: tuple[Problem, ...]

    def line_of(self, path: KeyPath) -> int:
        """Return the line of `path`, or of the nearest part of it that the file has."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


def key_text(path: KeyPath) -> str:
    """Return a path as a person writes it: `quantize[0].method`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def key_path(text: str) -> KeyPath:
    """Return the path that `key_text` wrote as `text`."""
    return tuple(int(index) if index else name for index, name in re.findall(r"\[(\d+)\]|([^.\[\]]+)", text))


def read(text: str) -> Document:
    """Return what `text` says; a text that is no YAML has the value None and its problems."""
    tabs = [number for number, line in enumerate(text.splitlines(), 1) if re.match(r" *\t\s*\S", line)]
    try:
        root = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        found = [Problem(line, "", "a tab indents this line; YAML allows spaces only; use two spaces") for line in tabs]
        return Document(None, {}, tuple(found) or (_syntax_problem(error),))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        return Document(
            None, {}, (Problem(line, "", f"character {error.character!r} is not allowed in YAML; remove it"),)
        )
    builder = _Builder()
    value = {} if root is None else builder.plain(root, ())
    return Document(value, builder.lines, tuple(builder.problems))


def write(value: Any) -> str:
    """Return `value` as YAML that `read` gives back unchanged."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def write_compact(value: Any) -> str:
    """Return `value` as YAML where each list and mapping without others inside stands on one line."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120, default_flow_style=None)


def on_one_line(value: Any) -> str:
    """Return `value` as YAML without a line break, as it stands after a key."""
    written = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=math.inf, default_flow_style=True
    )
    return written.removesuffix("\n...\n").strip()


def quoted(text: str) -> str:
    """Return `text` as a YAML scalar in double quotes, which JSON's strings are."""
    return json.dumps(text, ensure_ascii=False)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # filled below, with YAML 1.2's

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
            raise yaml.composer.ComposerError(None, None, f"*{event.anchor} is an alias", event.start_mark)
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}  # as above: so it quotes what the loader would misread


_WORDS = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
)
for _tag, _pattern, _first in _WORDS:
    _Loader.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)
    _Dumper.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), _first)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Quote a text with a line break of Unicode's own, which PyYAML would write bare and read as a space."""
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style='"' if re.search("[\x85\u2028\u2029]", text) else None
    )


_Dumper.add_representer(str, _represent_text)

_READ: dict[str, Callable[[str], Any]] = {
    "tag:yaml.org,2002:null": lambda _word: None,
    "tag:yaml.org,2002:bool": lambda word: word.lower() == "true",
    "tag:yaml.org,2002:int": int,
    "tag:yaml.org,2002:float": float,
    "tag:yaml.org,2002:str": str,
}


class _Builder:
    """Walks a node tree once, and collects lines and problems on the way."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {(): 1}
        self.problems: list[Problem] = []

    def plain(self, node: yaml.Node, path: KeyPath) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*path, index)] = item.start_mark.line + 1
            return [self.plain(item, (*path, index)) for index, item in enumerate(node.value)]
        if node.tag not in _READ:
            self._problem(node, path, f"tag {node.tag!r} is not allowed; a recipe holds plain values; remove the tag")
            return None
        return _READ[node.tag](node.value)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, path, "a key is a list or a mapping; a key is one word; write word: value")
            elif key.value in values:
                first = self.lines[(*path, key.value)]
                self._problem(key, (*path, key.value), f"is given twice, first on line {first}; keep one of them")
            else:
                self.lines[(*path, key.value)] = key.start_mark.line + 1
                values[key.value] = self.plain(value, (*path, key.value))
        return values

    def _problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, key_text(path), text))


_CURES = {
    "is an alias": "a recipe is written out in full; repeat the section instead",
    "mapping values are not allowed": "a line holds one key: value; quote a value that contains ': '",
    "could not find expected ':'": "every line is key: value, or - item; add the colon, or indent the line",
    "expected <block end>": "keys of one section start in the same column; mend the indentation",
    "cannot start any token": "quote a value that starts with @, `, %, or another sign",
    "expected ',' or": "a list or mapping in brackets is not closed; add the missing bracket or comma",
    "while scanning a quoted scalar": "a quote is not closed; add the missing one",
    "expected a single document": "a recipe is one document; remove the line ---",
}


def _syntax_problem(error: yaml.MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = f"{error.context or ''} {error.problem or ''}".strip()
    cure = next((cure for part, cure in _CURES.items() if part in said), "mend the indentation or the quotes")
    return Problem(mark.line + 1 if mark else 1, "", f"this is not YAML: {error.problem or said}; {cure}")
