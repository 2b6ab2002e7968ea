"""Counting a decoder before it exists, by making it without memory: every architecture is counted by its own code."""

from collections.abc import Mapping
from typing import Any

from edgedistill.errors import ModelError
from edgedistill.models.anatomy import Anatomy, layers_of


def of_decoder(name: str, config: Mapping[str, Any], layers: int, tokens: int) -> Anatomy:
    """Count a causal language model.

    Operations are two for each number of a matrix, the head's among them, a token table that is only looked up left
    out; attention scores and their weighted sum add 4 * tokens * hidden for each layer.

    Args:
        config: a checkpoint's config.json.
        layers: transformer blocks kept.
        tokens: length of the input at which the attention's share is counted.

    Raises:
        ModelError: transformers knows no causal language model of this kind.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    factory: Any = AutoModelForCausalLM  # its functions carry no types

    whole = layers_of(config)
    kept = {key: value[:layers] if isinstance(value, list) and len(value) == whole else value
            for key, value in config.items() if key not in ("model_type", "architectures")}  # fmt: skip
    try:
        made = AutoConfig.for_model(config["model_type"], **{**kept, "num_hidden_layers": layers})
        with torch.device("meta"):
            model = factory.from_config(made)
    except (KeyError, ValueError) as error:
        raise ModelError(f"no causal language model is known of this kind: {error}") from error
    table = model.get_input_embeddings().weight
    parameters = sum(one.numel() for one in model.parameters())
    matrices = sum(one.numel() for one in model.parameters() if one.dim() == 2)
    tied = model.get_output_embeddings().weight is table
    multiplied = matrices if tied else matrices - table.numel()
    hidden = table.shape[1]
    operations = 2 * multiplied + layers * 4 * tokens * hidden
    return Anatomy(name, parameters, 4 * parameters, operations, layers, table.shape[0], hidden, hidden)
