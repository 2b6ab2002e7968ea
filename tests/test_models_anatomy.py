"""What is counted before a model exists is what the model then has."""

from typing import Any

import pytest
import torch
from tiny_artifact import LABELS, VOCAB
from tiny_models import ARCHITECTURES, config_of, model_of

from edgedistill.models.anatomy import layers_of, of_encoder, of_static
from edgedistill.models.classifier import StaticClassifier

MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}


def parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("architecture", "changes"),
    [
        *((name, {}) for name in ARCHITECTURES),
        ("bert", {"num_hidden_layers": 1, "intermediate_size": 200, "type_vocab_size": 5}),
        ("bert", {"vocab_size": 30522, "max_position_embeddings": 512, **MINILM}),
        ("bert", {"id2label": dict(enumerate("abcdefg")), "label2id": {}}),
        ("distilbert", {"n_layers": 6, "hidden_dim": 64}),
        ("electra", {"embedding_size": 32}),
    ],
)
def test_an_encoders_parameters_are_counted_exactly(architecture: str, changes: dict[str, Any]) -> None:
    config = config_of(architecture, **changes)
    with torch.device("meta"):
        real = parameters(model_of(config))
    said = config.to_dict()
    counted = of_encoder("model", said, layers_of(said), config.num_labels, tokens=16)
    assert counted.parameters == real
    assert counted.weights_bytes == 4 * real


def test_a_config_json_on_disk_says_the_same(tmp_path_factory: pytest.TempPathFactory) -> None:
    from edgedistill.models.config_json import read_config

    for architecture in ARCHITECTURES:
        folder = tmp_path_factory.mktemp(architecture)
        config = config_of(architecture)
        config.save_pretrained(folder)
        said = read_config(folder)
        assert of_encoder("", said, layers_of(said), 2, 8) == of_encoder("", config.to_dict(), 4, 2, 8)


@pytest.mark.parametrize(("dimensions", "hidden_size"), [(8, 4), (256, 128)])
def test_a_static_models_parameters_are_counted_exactly(dimensions: int, hidden_size: int) -> None:
    real = parameters(StaticClassifier(VOCAB, dimensions, hidden_size, LABELS))
    assert of_static("model", VOCAB, dimensions, hidden_size, len(LABELS), tokens=16).parameters == real


@pytest.mark.parametrize("tokens", [8, 40])
def test_operations_are_those_that_run(tokens: int) -> None:
    """PyTorch's own counter sees every matrix product: the layers', and what the head adds for the text as a whole."""
    from torch.utils.flop_counter import FlopCounterMode

    config = config_of("bert")
    model = model_of(config)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(1, tokens, dtype=torch.int64))
    hidden = config.hidden_size
    of_the_head = 2 * hidden * hidden + 2 * hidden * len(LABELS)
    counted = of_encoder("model", config.to_dict(), config.num_hidden_layers, len(LABELS), tokens)
    assert counted.flops_per_token * tokens == counter.get_total_flops() - of_the_head


def test_a_layer_less_and_a_shorter_text_cost_less() -> None:
    said = config_of("bert").to_dict()
    full, fewer, shorter = (of_encoder("", said, layers, 2, tokens) for layers, tokens in ((4, 64), (2, 64), (4, 8)))
    assert fewer.parameters < full.parameters == shorter.parameters
    assert fewer.flops_per_token * 2 == full.flops_per_token > shorter.flops_per_token
