"""Which type each tensor gets, in rules that can be said by hand; llama.cpp itself is asked in references/."""

from typing import Any

import pytest
from tiny_ggml import config_of, shapes_of

from edgedistill.errors import QuantizationError
from edgedistill.quantize.ggml_mixtures import ARCHITECTURES, SCHEMES, Choice, decide, gguf_names, more_bits

DOWN, VALUES, TABLE, HEAD = "mlp.down_proj", "self_attn.v_proj", "model.embed_tokens.weight", "lm_head.weight"


def decided(
    scheme: str = "q4_k_m", columns: int = 256, overrides: dict[str, str] | None = None, **settings: Any
) -> dict[str, Choice]:
    """Return what is decided about a decoder of 16 layers with these columns."""
    has_importance, tied = settings.pop("has_importance", False), settings.pop("tied", True)
    config = config_of(**{"layers": 16, **settings})
    return decide(config, shapes_of(config, columns, tied=tied), scheme, overrides or {}, has_importance=has_importance)


def of_layers(choices: dict[str, Choice], part: str) -> str:
    """Return the types of one part, layer by layer."""
    return " ".join(choice.type for name, choice in choices.items() if f".{part}.weight" in name)


def test_half_of_the_layers_get_more_bits() -> None:
    assert [layer for layer in range(16) if more_bits(layer, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]
    assert [layer for layer in range(3) if more_bits(layer, 3)] == [2]


def test_values_and_down_projections_of_those_layers_do() -> None:
    for scheme, usual in (("q4_k_m", "Q4_K"), ("q5_k_m", "Q5_K")):
        choices = decided(scheme)
        expected = " ".join("Q6_K" if more_bits(layer, 16) else usual for layer in range(16))
        assert of_layers(choices, DOWN) == of_layers(choices, VALUES) == expected
        assert of_layers(choices, "mlp.gate_proj") == " ".join([usual] * 16)


@pytest.mark.parametrize(
    ("shared", "columns", "layers", "scheme", "expected"),
    [
        (1, 256, 16, "q2_k", "Q3_K"),
        (4, 256, 16, "q2_k", "Q4_K"),
        (1, 256, 16, "iq4_nl", "IQ4_NL"),
        (4, 256, 16, "iq4_nl", "Q5_K"),
        (4, 288, 16, "iq4_nl", "Q5_1"),
        (4, 256, 80, "q2_k", "Q5_K"),
        (1, 256, 80, "q2_k", "Q3_K"),
    ],
)
def test_values_get_more_bits_where_many_heads_share_them(
    shared: int, columns: int, layers: int, scheme: str, expected: str
) -> None:
    choices = decided(scheme, columns, shared=shared, layers=layers)
    assert set(of_layers(choices, VALUES).split()) == {expected}


def test_importance_changes_the_first_down_projections_of_two_schemes() -> None:
    without, given = ({name: decided(name, has_importance=known) for name in SCHEMES} for known in (False, True))
    assert {name for name in SCHEMES if without[name] != given[name]} == {"q4_0", "iq4_nl"}
    assert of_layers(given["q4_0"], DOWN).startswith("Q4_1 Q4_1 Q4_0")
    assert of_layers(without["iq4_nl"], DOWN).startswith("Q5_K Q5_K IQ4_NL")


def test_a_table_that_is_the_head_too_is_stored_as_a_head() -> None:
    tied, untied = decided(), decided(tied=False)
    assert tied[TABLE] == untied[HEAD] == Choice("Q6_K", "Q6_K", "")
    assert untied[TABLE].type == "Q4_K"


def test_rows_that_do_not_divide_get_other_blocks_and_a_reason() -> None:
    choices = decided(columns=576)
    assert choices[f"model.layers.2.{DOWN}.weight"] == Choice(
        "Q5_0", "Q4_K", "576 columns do not divide into Q4_K's blocks of 256"
    )
    assert choices[f"model.layers.0.{DOWN}.weight"].type == "Q8_0"
    assert choices[TABLE] == Choice("Q8_0", "Q6_K", "576 columns do not divide into Q4_K's blocks of 256")
    assert decided("q4_0", columns=576)[TABLE].reason == "576 columns do not divide into Q6_K's blocks of 256"
    odd = decided(columns=40)
    assert {choice.type for name, choice in odd.items() if "proj" in name} == {"F16"}


def test_vectors_stay_float() -> None:
    for scheme in SCHEMES:
        choices = decided(scheme, architecture="qwen2")
        vectors = {choice.type for name, choice in choices.items() if "norm" in name or name.endswith("bias")}
        assert vectors == {"F32"}


def test_an_override_changes_its_tensors_alone_and_the_first_that_fits_counts() -> None:
    plain = decided()
    chosen = decided(overrides={f"*.3.{DOWN}*": "F16", f"*{DOWN}*": "Q3_K", "*q_proj*": "Q5_0"})
    changed = {name: choice.type for name, choice in chosen.items() if choice != plain[name]}
    expected = {f"model.layers.{layer}.{DOWN}.weight": "Q3_K" for layer in range(16)} | {
        f"model.layers.3.{DOWN}.weight": "F16"
    }
    assert changed == expected | {f"model.layers.{layer}.self_attn.q_proj.weight": "Q5_0" for layer in range(16)}


def test_an_override_that_rows_do_not_fit_keeps_the_reason() -> None:
    choice = decided("gguf_f16", columns=96, overrides={TABLE: "IQ4_XS"})[TABLE]
    assert choice == Choice("IQ4_NL", "IQ4_XS", "96 columns do not divide into IQ4_XS's blocks of 256")


@pytest.mark.parametrize("pattern", ["*norm*", "lm_head*", "*.16.*"])
def test_an_override_that_fits_no_matrix_is_told(pattern: str) -> None:
    with pytest.raises(
        QuantizationError, match=r"overrides: '.*' fits no matrix; the first ones are: model\.embed_tokens"
    ):
        decided(overrides={pattern: "Q8_0"})


@pytest.mark.parametrize(
    ("config", "shapes", "said"),
    [
        ({"model_type": "gpt2"}, {}, "of type 'gpt2' has no known mixture.*: llama, mistral"),
        (
            config_of(),
            {"model.layers.2.mlp.up_proj.weight": (4, 256)},
            r"layers\.2\..* has no name in a GGUF file of a llama",
        ),
        (
            config_of(),
            {"model.layers.0.mlp.up_proj.weight": (2, 4, 256)},
            r"blk\.0\.ffn_up.* experts are not known here",
        ),
    ],
)
def test_what_is_not_known_is_told(config: dict[str, Any], shapes: dict[str, Any], said: str) -> None:
    with pytest.raises(QuantizationError, match=said):
        decide(config, shapes, "q4_k_m", {}, has_importance=False)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_of_a_transformers_model_has_a_name(architecture: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    made: Any = AutoModelForCausalLM
    config = AutoConfig.for_model(
        architecture, vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    with torch.device("meta"):
        names = [name for name, _ in made.from_config(config).named_parameters()]
    called = gguf_names(config.to_dict(), names)
    assert len(set(called.values())) == len(names) >= 15
    assert {f"blk.{layer}.attn_output.weight" for layer in range(2)} < set(called.values())
