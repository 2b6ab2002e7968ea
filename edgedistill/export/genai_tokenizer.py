"""A tokenizer.json whose rules for cutting words are all written out, as onnxruntime-genai needs them.

It reads regular expressions exactly, but guesses what the rule `Digits` takes for a digit (not ½, ², Ⅷ or digits of
other scripts after a space), and where an expression of one rule is written out it no longer applies the one that
`ByteLevel` has built in. Written out, both are the same rules: parity proves it, text by text.

Source: https://docs.rs/tokenizers/latest/tokenizers/pre_tokenizers/ for what the rules are.
"""

import json
from typing import Any

NUMBER, NUMBERS = r"\p{N}", r"\p{N}+"  # what `Digits` takes for a digit is every number of Unicode's
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # built into `ByteLevel`


def spelled_out(tokenizer_json: str) -> str:
    """Return the same tokenizer with `Digits`, and then `ByteLevel`, written as regular expressions.

    One without `Digits` is returned as it is: alone, the rule that is built into `ByteLevel` is read rightly.
    """
    said = json.loads(tokenizer_json)
    rule = said.get("pre_tokenizer") or {}
    parts = rule["pretokenizers"] if rule.get("type") == "Sequence" else [rule]
    if not any(part.get("type") == "Digits" for part in parts):
        return tokenizer_json
    said["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [each for part in parts for each in _written(part)]}
    return json.dumps(said, ensure_ascii=False, indent=2)


def _written(part: dict[str, Any]) -> list[dict[str, Any]]:
    if part["type"] == "Digits":
        return [_split(NUMBER if part["individual_digits"] else NUMBERS)]
    if part["type"] == "ByteLevel" and part.get("use_regex", True):
        return [_split(GPT2), {**part, "use_regex": False}]
    return [part]


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
