"""Types, and bytes, tensor by tensor, against llama.cpp's own quantizer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_ggml import FILE_TYPES, config_of, quantized_by_llama, shapes_of, weights_of, write_gguf

from edgedistill.quantize import ggml_mixtures
from edgedistill.quantize.ggml_encoder import encode
from edgedistill.quantize.ggml_mixtures import decide

pytest.importorskip("llama_cpp", reason="llama.cpp itself is asked")
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "blocks of 256": (config_of(layers=16), {}),
    "blocks of 32": (config_of(layers=16), {"columns": 96}),
    "no blocks": (config_of(layers=4), {"columns": 80}),
    "a down projection alone divides": (config_of(layers=9), {"columns": 96, "inner": 256}),
    "a head of its own": (config_of(layers=9), {"tied": False}),
    "a head of its own in blocks of 32": (config_of(layers=9), {"columns": 96, "tied": False}),
    "keys and values shared by four": (config_of(layers=9, shared=4), {}),
    "shared, in blocks of 32": (config_of(layers=9, shared=8), {"columns": 96}),
    "eighty layers": (config_of(layers=80, shared=8), {}),
    "eighty layers that share nothing": (config_of(layers=80), {}),
    "biases": (config_of("qwen2", layers=9), {"tied": False}),
    "eighty layers of qwen2": (config_of("qwen2", layers=80), {}),
    "one matrix for queries, keys and values": (config_of("phi3", layers=9), {"tied": False}),
}


DEEP = tuple(case for case, (config, _) in CASES.items() if config["num_hidden_layers"] == 80)
BY_DEPTH = ("q2_k", "q3_k_m", "q4_k_m")
"""Schemes in which values get another type where there are eighty layers."""
ASKED = [
    (scheme, case, known)
    for case in CASES
    for scheme in (BY_DEPTH if case in DEEP else FILE_TYPES)
    for known in ((False,) if case in DEEP else (False, True))
]


def differences(scheme: str, case: str, folder: Path, *, with_importance: bool) -> list[str]:
    """Return the tensors whose type or bytes are not what llama.cpp makes of the same weights."""
    config, shape = CASES[case]
    shapes = shapes_of(config, **shape)
    weights = weights_of(shapes)
    random = np.random.default_rng(1)
    importance = {
        name: np.exp(random.normal(size=each[1])).astype(np.float32)
        for name, each in shapes.items()
        if len(each) == 2 and name != "model.embed_tokens.weight"
    }
    given = importance if with_importance else None
    file = write_gguf(folder / "float.gguf", config, weights)
    theirs = quantized_by_llama(file, scheme, config, weights, given)
    found = []
    for name, choice in decide(config, shapes, scheme, {}, has_importance=with_importance).items():
        type_name, stored = theirs[name]
        ours = encode(weights[name], choice.type, None if given is None else given.get(name)).data
        if type_name != choice.type or not np.array_equal(stored.reshape(ours.shape), ours):
            found.append(f"{name}: {choice.type}, and llama.cpp has {type_name}")
    return found


@pytest.mark.parametrize(("scheme", "case", "with_importance"), ASKED)
def test_types_and_bytes_are_those_of_llama_cpp(scheme: str, case: str, with_importance: bool, tmp_path: Path) -> None:
    assert not differences(scheme, case, tmp_path, with_importance=with_importance)


@pytest.mark.parametrize(
    ("part", "twin", "scheme", "case"),
    [
        ("more_bits", lambda index, _count: index % 2 == 0, "q4_k_m", "blocks of 256"),
        ("MANY_SHARE", 8, "q2_k", "keys and values shared by four"),
        ("VALUES", ("attn_v",), "q4_k_m", "one matrix for queries, keys and values"),
        ("OTHER_BLOCKS", {}, "q4_k_m", "blocks of 32"),
        ("_of_output", lambda columns, usual: ggml_mixtures._fitting(usual, columns), "q4_k_m", "a head of its own"),
    ],
)
def test_the_comparison_sees_a_broken_rule(
    part: str, twin: Any, scheme: str, case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ggml_mixtures, part, twin)
    assert differences(scheme, case, tmp_path, with_importance=False)
