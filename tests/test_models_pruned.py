"""What is pruned is what matters least; what did nothing before is not missed; what stays is the teacher's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from test_models_load import edit
from tiny_gguf import ARCHITECTURES, tensors_of, write_checkpoint, write_tokenizer
from tiny_pruning import IDS, MASK, logits, measured, prune, write_measured

from edgedistill.errors import ModelError
from edgedistill.models.activation_importance import Importance
from edgedistill.models.config_json import read_config
from edgedistill.models.cut_decoder import kept, most_important
from edgedistill.models.decoder import load_decoder
from edgedistill.models.decoder_parts import DecoderSizes, sizes_in
from edgedistill.models.layer_choice import LayerChoice
from edgedistill.models.students import layers as by_layers
from edgedistill.models.students import pruned

SMALLER = {"layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def whole(folder: Path) -> dict[str, int]:
    sizes = sizes_in(read_config(folder))
    return {name: getattr(sizes, name) for name in pruned.WIDTHS}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_pruning_nothing_leaves_every_logit_as_it_is(family: str, tmp_path: Path) -> None:
    teacher = write_measured(tmp_path, family)
    before = logits(teacher)
    assert torch.equal(logits(prune(tmp_path)), before)
    assert torch.equal(logits(prune(tmp_path, layers=3, **whole(tmp_path))), before)
    assert not torch.allclose(logits(prune(tmp_path, intermediate_size=64)), before, atol=0.1)


def silence(decoder: Any, channels: list[int], group: int, neurons: list[int]) -> None:
    """Set channels of the stream, a group of heads in each layer, and neurons of each layer to zero."""
    body, head = decoder.model.model, sizes_in(decoder.model.config.to_dict()).head_dim
    with torch.no_grad():
        body.embed_tokens.weight[:, channels] = 0
        for norm in (part for name, part in decoder.model.named_modules() if name.endswith("norm")):
            norm.weight.uniform_(0.5, 1.5)
        for layer in body.layers:
            for writes in (layer.self_attn.o_proj, layer.mlp.down_proj):
                writes.weight[channels] = 0
            values = slice(group * head, (group + 1) * head)
            layer.self_attn.v_proj.weight[values] = 0
            if layer.self_attn.v_proj.bias is not None:
                layer.self_attn.v_proj.bias[values] = 0
            layer.mlp.up_proj.weight[neurons] = 0


@pytest.mark.parametrize("family", ARCHITECTURES)
@pytest.mark.parametrize(
    "less",
    [
        {"hidden_size": 48},
        {"num_key_value_heads": 1},
        {"hidden_size": 48, "num_key_value_heads": 1, "intermediate_size": 80},
    ],
)
def test_what_is_zero_is_not_missed(family: str, less: dict[str, int], tmp_path: Path) -> None:
    write_checkpoint(tmp_path, family, num_hidden_layers=2)
    teacher = load_decoder(tmp_path)
    silence(teacher, list(range(5, 21)), 1, list(range(0, 32, 2)))
    teacher.save(tmp_path)
    before = logits(measured(tmp_path))
    assert before.std() > 0.1
    assert torch.allclose(logits(prune(tmp_path, **less)), before, atol=2e-3 * float(before.abs().max()))
    importance = Importance.load(tmp_path / pruned.IMPORTANCE)
    backwards = replace(
        importance, channels=-importance.channels, heads=tuple(-of for of in importance.heads),
        neurons=tuple(-of for of in importance.neurons),
    )  # fmt: skip
    measured(tmp_path, backwards)
    missed = logits(prune(tmp_path, **less))
    assert not torch.allclose(missed, before, atol=0.05 * float(before.abs().max())), "the most important ones are"


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_stock_transformers_compute_what_the_student_computes(family: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    write_measured(tmp_path / "teacher", family)
    student = prune(tmp_path / "teacher", **SMALLER)
    student.save(tmp_path / "student")
    stock = AutoModelForCausalLM.from_pretrained(
        tmp_path / "student", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    with torch.no_grad():
        said = stock(input_ids=IDS, attention_mask=MASK).logits[MASK.bool()]
    assert torch.equal(said, logits(student))
    assert torch.equal(logits(load_decoder(tmp_path / "student")), logits(student))
    counted = pruned.anatomy(pruned.Options(kind="pruned", **SMALLER), read_config(tmp_path / "teacher"), 0, 8)
    assert counted.parameters == sum(parameter.numel() for parameter in student.parameters())
    assert (counted.layers, counted.hidden_size) == (2, 32)
    assert {"layers": 2, **whole(tmp_path / "student")} == {"num_key_value_heads": 2, **SMALLER}
    assert sizes_in(read_config(tmp_path / "student")).head_dim == sizes_in(read_config(tmp_path / "teacher")).head_dim


def test_rows_and_columns_that_stay_are_the_teachers(tmp_path: Path) -> None:
    teacher = write_measured(tmp_path, "qwen2").model.state_dict()
    student = prune(tmp_path, layers=(0, 2), hidden_size=32, num_attention_heads=2, intermediate_size=64)
    importance = Importance.load(tmp_path / pruned.IMPORTANCE)
    before, after = sizes_in(read_config(tmp_path)), sizes_in(student.model.config.to_dict())
    stay = kept(importance, (0, 2), before, after)
    small, channels = student.model.state_dict(), torch.from_numpy(stay.channels)
    assert torch.equal(small["lm_head.weight"], teacher["lm_head.weight"][:, channels])
    for new, old in enumerate((0, 2)):
        neurons = torch.from_numpy(stay.neurons[new])
        at, of = f"model.layers.{new}", f"model.layers.{old}"
        assert torch.equal(
            small[f"{at}.mlp.down_proj.weight"], teacher[f"{of}.mlp.down_proj.weight"][channels][:, neurons]
        )
        for place, head in enumerate(stay.heads[new]):
            mine = small[f"{at}.self_attn.q_proj.bias"][place * 16 : place * 16 + 16]
            assert torch.equal(mine, teacher[f"{of}.self_attn.q_proj.bias"][head * 16 : head * 16 + 16])


@pytest.mark.parametrize("norm", ["model.layers.1.input_layernorm", "model.norm"])
def test_a_norm_of_fewer_channels_gives_what_the_whole_one_gave(norm: str, tmp_path: Path) -> None:
    """Exactly, where the channels that stay have the same part in the sum of squares of each token."""
    stream = torch.cat([3.0 * torch.ones(40), torch.ones(24)]) * torch.randn(64).sign()
    share = (stream.square() / stream.square().sum()).double().numpy()
    write_measured(tmp_path)
    importance = Importance.load(tmp_path / pruned.IMPORTANCE)
    shares = dict.fromkeys(importance.shares, share)
    teacher = measured(tmp_path, replace(importance, channels=np.arange(64.0), shares=shares))
    student, stay = prune(tmp_path, hidden_size=32), torch.arange(32, 64)
    with torch.no_grad():
        before, after = (
            decoder.model.get_submodule(norm)(given) for decoder, given in ((teacher, stream), (student, stream[stay]))
        )
    assert torch.allclose(after, before[stay], rtol=1e-4)
    assert not torch.allclose(teacher.model.get_submodule(norm).weight[stay], student.model.get_submodule(norm).weight)


@given(
    groups=st.integers(1, 4), sharing=st.integers(1, 4), kept_groups=st.integers(1, 4), kept_sharing=st.integers(1, 4),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_heads_stay_with_their_keys_and_as_many_in_each_group(
    groups: int, sharing: int, kept_groups: int, kept_sharing: int, seed: int
) -> None:
    kept_groups, kept_sharing = min(groups, kept_groups), min(sharing, kept_sharing)
    before = DecoderSizes(8, groups * sharing, groups, 8, 4)
    after = DecoderSizes(8, kept_groups * kept_sharing, kept_groups, 8, 4)
    heads = np.random.default_rng(seed).random(groups * sharing)
    stay = kept(Importance(np.ones(8), (heads,), (np.ones(8),), {}), (0,), before, after)
    assert np.array_equal(stay.heads[0] // sharing, np.repeat(stay.groups[0], kept_sharing))
    assert len(set(stay.heads[0])) == kept_groups * kept_sharing
    best = max(  # of all ways to keep so many, by trying
        sum(np.sort(heads[group * sharing : (group + 1) * sharing])[-kept_sharing:].sum() for group in some)
        for some in _subsets(groups, kept_groups)
    )
    assert heads[stay.heads[0]].sum() == pytest.approx(best)


def _subsets(count: int, size: int) -> Any:
    from itertools import combinations

    return combinations(range(count), size)


def test_of_equals_the_first_ones_stay() -> None:
    assert most_important(np.array([1.0, 2, 1, 2, 1]), 3).tolist() == [0, 1, 3]
    assert most_important(np.zeros(4), 2).tolist() == [0, 1]


REFUSED = (
    ({"hidden_size": 128}, ["student.hidden_size: 128 is more than the teacher's 64; write 64 or less"]),
    (
        {"layers": 9, "hidden_size": 128, "intermediate_size": 97, "num_attention_heads": 3},
        ["student.layers: 9 is more", "student.hidden_size: 128", "student.intermediate_size: 97 is more than",
         "student.num_attention_heads: 3 neither divide among the teacher's 2 heads of keys and values nor are whole "
         "groups of 2 (the teacher has 4, 2 for each of its 2); write one of 2, 4"],
    ),
    (
        {"num_attention_heads": 3, "num_key_value_heads": 1},
        ["student.num_attention_heads: 3 do not go with 1 heads of keys and values (the teacher has 4, 2 for each of "
         "its 2); write one of 1, 2"],
    ),
    ({"num_key_value_heads": 3}, ["student.num_key_value_heads: 3 is more than the teacher's 2; write 2 or less"]),
)  # fmt: skip


@pytest.mark.parametrize(("asked", "told"), REFUSED)
def test_what_cannot_be_cut_is_told_all_at_once(asked: dict[str, Any], told: list[str], tmp_path: Path) -> None:
    write_measured(tmp_path)
    options = pruned.Options(kind="pruned", **asked)
    found = [f"{key}: {text}" for key, text in pruned.problems(options, read_config(tmp_path))]
    assert len(found) == len(told)
    assert all(one.startswith(start) for one, start in zip(found, told, strict=True)), found
    for refused in (lambda: prune(tmp_path, **asked), lambda: pruned.anatomy(options, read_config(tmp_path), 0, 8)):
        with pytest.raises(ModelError) as caught:
            refused()
        assert str(caught.value) == found[0]


@pytest.mark.parametrize(
    ("asked", "heads", "groups"),
    [
        ({"num_attention_heads": 2}, 2, 2),  # one of each group
        ({"num_attention_heads": 2, "num_key_value_heads": 1}, 2, 1),
        ({"num_key_value_heads": 1}, 2, 1),
        ({"num_attention_heads": 1, "num_key_value_heads": 1}, 1, 1),
    ],
)
def test_heads_go_inside_groups_or_with_them(asked: dict[str, int], heads: int, groups: int, tmp_path: Path) -> None:
    write_measured(tmp_path)
    config = prune(tmp_path, **asked).model.config
    assert (config.num_attention_heads, config.num_key_value_heads, config.head_dim) == (heads, groups, 16)


def test_without_shared_keys_heads_take_their_keys_with_them(tmp_path: Path) -> None:
    write_measured(tmp_path, num_key_value_heads=4)
    config = prune(tmp_path, num_attention_heads=3).model.config
    assert (config.num_attention_heads, config.num_key_value_heads) == (3, 3)


def test_heads_that_do_not_divide_are_refused_by_the_recipe_alone() -> None:
    with pytest.raises(ValidationError, match=r"num_attention_heads 6 do not divide among num_key_value_heads 4; .* 4"):
        pruned.Options(kind="pruned", num_attention_heads=6, num_key_value_heads=4)


def test_another_architecture_and_a_part_that_is_unknown_are_refused(tmp_path: Path) -> None:
    write_measured(tmp_path)
    edit(tmp_path / "config.json", model_type="bloom")
    with pytest.raises(ModelError, match=r"student\.kind: pruned knows the parts of llama, .* is 'bloom'"):
        prune(tmp_path)
    write_measured(tmp_path)
    measured(tmp_path, replace(Importance.load(tmp_path / pruned.IMPORTANCE), shares={}))
    with pytest.raises(ModelError, match=r"does not know the teacher's model\.layers\.0\.input_layernorm"):
        prune(tmp_path, hidden_size=32)


def test_a_number_of_layers_keeps_those_that_were_chosen(tmp_path: Path) -> None:
    write_measured(tmp_path, layers=4)
    chosen = LayerChoice.load(tmp_path / pruned.LAYERS).layers
    named = by_layers.make(by_layers.Options(kind="layers", layers=chosen), tmp_path, (), tmp_path).eval()
    assert torch.allclose(logits(prune(tmp_path, layers=len(chosen))), logits(named), atol=1e-6)
    others = next(two for two in ((0, 1), (1, 2), (2, 3)) if two != chosen)
    other = by_layers.make(by_layers.Options(kind="layers", layers=others), tmp_path, (), tmp_path).eval()
    assert not torch.allclose(logits(prune(tmp_path, layers=len(chosen))), logits(other), atol=1e-3)


def test_it_says_what_it_was_made_of() -> None:
    said = pruned.describe(pruned.Options(kind="pruned", layers=2, hidden_size=32, num_attention_heads=2))
    assert "the teacher's weights, pruned (layers, hidden size, attention heads)" in said


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_llama_cpp_computes_what_the_student_computes(family: str, tmp_path: Path) -> None:
    pytest.importorskip("llama_cpp", reason="it runs the file; it needs the extra gguf, and a C++ compiler")
    from edgedistill.export.gguf_file import write_gguf
    from edgedistill.runtimes import llama_cpp

    write_measured(tmp_path / "teacher", family)
    narrow = SMALLER if family == "qwen2" else {"layers": 2, "hidden_size": 32, "num_key_value_heads": 1}
    student = prune(tmp_path / "teacher", **narrow)
    write_tokenizer(tmp_path / "student", "smollm")
    student.save(tmp_path / "student")
    file = tmp_path / "student.gguf"
    said: dict[str, Any] = {"name": "t", "version": "1.0", "licence": "mit", "file_type": "F32", "facts": {}}
    write_gguf(file, tmp_path / "student", tensors_of(student.model), importance=None, **said)
    found = llama_cpp.load(tmp_path, file.name, threads=1, context_tokens=32, exact=True).logits(IDS[0].tolist())
    with torch.no_grad():
        wanted = student(IDS[:1], MASK[:1])[0].numpy()
    assert np.abs(found[:, : wanted.shape[1]] - wanted).max() < 1e-3 * np.abs(wanted).max()
