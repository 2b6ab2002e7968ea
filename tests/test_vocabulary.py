"""Which tokens are kept, and a checkpoint that has their rows alone computes what it computed with all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from tiny_artifact import LABELS, VOCAB
from tiny_models import ARCHITECTURES, write_model

from edgedistill.errors import ModelError
from edgedistill.models import vocabulary
from edgedistill.models.config_json import read_config
from edgedistill.models.load import load_encoder, load_encoder_with_new_head, load_model, load_tokenizer
from edgedistill.models.tokenizer_json import write_trimmed
from edgedistill.models.vocabulary import chosen, trimmed_checkpoint
from edgedistill.section import VocabularyOptions

KEPT = np.array([0, 1, 2, 3, 7, 9, 10, 40, 41, 99, VOCAB - 1])
IDS = torch.from_numpy(KEPT)[torch.tensor([[2, 5, 9, 10, 4, 3], [2, 6, 7, 3, 0, 0]])]
NEW_IDS = torch.tensor([[2, 5, 9, 10, 4, 3], [2, 6, 7, 3, 0, 0]])
MASK = torch.tensor([[1] * 6, [1] * 4 + [0] * 2])


def selected(counts: dict[int, int], folder: Path, config: Any = None, **options: int) -> list[int]:
    write_model(folder)
    given = np.zeros(VOCAB, dtype=np.int64)
    given[list(counts)] = list(counts.values())
    found: list[int] = chosen(
        VocabularyOptions(**options), load_tokenizer(folder), config or read_config(folder), given
    ).tolist()
    return found


ALWAYS = {0, 1, 2, 3, 8}  # special tokens, and the word `a`, which is a single character


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"min_count": 1}, {20, 50, 70, 100}),
        ({"min_count": 2}, {50, 70, 100}),
        ({"min_count": 9}, set()),
        ({"size": 7}, {70, 50}),
        ({"size": 6}, {70}),
        ({"size": 7, "min_count": 6}, {70}),
        ({"size": 500}, {20, 50, 70, 100}),
        ({"size": 12, "min_count": 0}, {20, 50, 70, 100, 4, 5, 6}),
    ],
)
def test_the_most_frequent_tokens_are_kept(options: dict[str, int], more: set[int], tmp_path: Path) -> None:
    assert selected({20: 1, 50: 5, 70: 8, 100: 5}, tmp_path, **options) == sorted(ALWAYS | more)


def test_a_size_below_what_is_always_kept_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"student\.vocabulary\.size: 4 is less than the 5 tokens .* write 5 or more"):
        selected({}, tmp_path, size=4)


def test_a_token_that_the_config_names_is_kept(tmp_path: Path) -> None:
    config = {"decoder_start_token_id": 60, "eos_token_id": [61, 62], "bos_token_id": None, "sep_token_id": VOCAB + 5}
    assert set(selected({}, tmp_path, config)) == ALWAYS | {60, 61, 62}


@pytest.mark.parametrize("options", [{"min_count": 0}, {"size": 0}, {"min_count": -1}])
def test_options_that_drop_nothing_or_all_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        VocabularyOptions(**options)


def written(folder: Path, architecture: str = "bert", kept: np.ndarray = KEPT, **changes: Any) -> Path:
    """Write a checkpoint and its trimmed copy; return the copy's folder."""
    write_model(folder / "whole", architecture, **changes)
    write_trimmed(load_tokenizer(folder / "whole"), kept.tolist(), folder / "tokenizer")
    return trimmed_checkpoint(folder / "whole", kept, folder / "tokenizer", folder / "trimmed")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_trimmed_classifier_computes_the_same_on_kept_tokens(architecture: str, tmp_path: Path) -> None:
    trimmed = written(tmp_path, architecture)
    whole, small = load_model(tmp_path / "whole"), load_model(trimmed)
    assert small.token_table.weight.shape[0] == len(KEPT) == read_config(trimmed)["vocab_size"]
    assert small.labels == whole.labels
    with torch.no_grad():
        said = small(NEW_IDS, MASK)
        assert torch.equal(said, whole(IDS, MASK))
        assert not torch.equal(said, whole(NEW_IDS, MASK)), "the check can fail"
    assert len(load_tokenizer(trimmed)) == len(KEPT)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_trimmed_encoder_is_still_without_a_head(architecture: str, tmp_path: Path) -> None:
    trimmed = written(tmp_path, architecture, headed=False)
    with torch.no_grad():
        whole, small = (
            load_encoder(folder, LABELS)(input_ids=ids, attention_mask=MASK).last_hidden_state
            for folder, ids in ((tmp_path / "whole", IDS), (trimmed, NEW_IDS))
        )
    assert torch.equal(whole, small)
    heads = []
    for folder in (tmp_path / "whole", trimmed):
        torch.manual_seed(3)
        heads.append([weight for name, weight in load_encoder_with_new_head(folder, LABELS).named_parameters()
                      if "classifier" in name])  # fmt: skip
    assert all(torch.equal(one, other) for one, other in zip(*heads, strict=True)), "the same seed, the same head"


def test_ids_in_the_config_are_those_of_the_kept_tokens(tmp_path: Path) -> None:
    trimmed = written(tmp_path, kept=np.array([0, 1, 2, 3, 50, 60]), eos_token_id=60, bos_token_id=50)
    said = read_config(trimmed)
    assert (said["pad_token_id"], said["bos_token_id"], said["eos_token_id"]) == (0, 4, 5)


def test_a_copy_is_made_once_and_a_half_one_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed = written(tmp_path)
    before = {file.name: file.read_bytes() for file in trimmed.iterdir()}
    (trimmed / "config.json").unlink()
    (trimmed / "model.safetensors").write_bytes(b"half")
    arguments = (tmp_path / "whole", KEPT, tmp_path / "tokenizer", trimmed)
    trimmed_checkpoint(*arguments)
    assert {file.name: file.read_bytes() for file in trimmed.iterdir()} == before
    monkeypatch.setattr(vocabulary, "read_config", lambda folder: pytest.fail("read again"))
    assert trimmed_checkpoint(*arguments) == trimmed


def test_weights_in_several_files_are_trimmed_alike(tmp_path: Path) -> None:
    model = write_model(tmp_path / "whole")
    (tmp_path / "whole" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "whole", max_shard_size="20KB")
    assert len(list((tmp_path / "whole").glob("*.safetensors"))) > 1
    write_trimmed(load_tokenizer(tmp_path / "whole"), KEPT.tolist(), tmp_path / "tokenizer")
    trimmed = trimmed_checkpoint(tmp_path / "whole", KEPT, tmp_path / "tokenizer", tmp_path / "trimmed")
    with torch.no_grad():
        assert torch.equal(load_model(trimmed)(NEW_IDS, MASK), load_model(tmp_path / "whole")(IDS, MASK))


def test_a_model_that_counts_positions_from_its_padding_keeps_it_where_it_is(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="numbers positions from its padding's id, and trimming would change that"):
        written(tmp_path, "roberta", pad_token_id=9)
    assert written(tmp_path, "bert", pad_token_id=9), "which another model does not mind"


def test_a_table_under_an_unknown_name_is_told(tmp_path: Path) -> None:
    write_model(tmp_path / "whole")
    write_trimmed(load_tokenizer(tmp_path / "whole"), KEPT.tolist(), tmp_path / "tokenizer")
    config = read_config(tmp_path / "whole") | {"model_type": "distilbert", "dim": 32, "n_heads": 2}
    (tmp_path / "whole" / "config.json").write_text(json.dumps(config), encoding="utf-8")
    from safetensors.torch import load_file, save_file

    file = tmp_path / "whole" / "model.safetensors"
    save_file({name.replace("word_embeddings", "other"): tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(ModelError, match=r"has 0 token tables called embeddings\.word_embeddings\.weight"):
        trimmed_checkpoint(tmp_path / "whole", KEPT, tmp_path / "tokenizer", tmp_path / "trimmed")
