"""Counting a model before it exists: parameters, bytes, and floating point operations for each token."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from optimum.utils.normalized_config import NormalizedConfigManager, NormalizedTextConfig

from edgedistill.errors import ModelError


@dataclass(frozen=True)
class Anatomy:
    """What a model weighs and what one token costs."""

    name: str
    parameters: int
    weights_bytes: int  # as float32
    flops_per_token: int  # multiply and add count as two
    layers: int  # of a transformer; 0 where no token sees another
    vocab_size: int
    embedding_width: int  # numbers that the token table gives for each token
    hidden_size: int  # numbers that a layer gives for each token; the table's width where there is no layer

    @property
    def table_parameters(self) -> int:
        """Numbers in the token table, were it stored whole."""
        return self.vocab_size * self.embedding_width

    def factorised(self, rank: int) -> "Anatomy":
        """Return the same model with its token table as (vocabulary, rank) times (rank, width).

        Raises:
            ModelError: the two factors would hold as many numbers as the table.
        """
        check_rank(rank, self.vocab_size, self.embedding_width)
        saved = self.table_parameters - rank * (self.vocab_size + self.embedding_width)
        return replace(
            self,
            parameters=self.parameters - saved,
            weights_bytes=self.weights_bytes - 4 * saved,
            flops_per_token=self.flops_per_token + 2 * rank * self.embedding_width,
        )

    def projected(self, width: int, tokens: int) -> "Anatomy":
        """Return the same embedder with a linear map to `width` numbers; its cost is shared by the text's tokens."""
        more = self.hidden_size * width
        return replace(
            self,
            parameters=self.parameters + more,
            weights_bytes=self.weights_bytes + 4 * more,
            flops_per_token=self.flops_per_token + 2 * more // tokens,
        )


def check_rank(rank: int, vocab_size: int, width: int) -> None:
    """Check that a token table of this rank is smaller than the whole one.

    Raises:
        ModelError: it is not; the text begins with the recipe's key and names the largest rank that is.
    """
    largest = (vocab_size * width - 1) // (vocab_size + width)
    if rank > largest:
        raise ModelError(
            f"student.embedding_rank: {rank} saves nothing on a table of {vocab_size} tokens by {width} numbers; "
            f"write {largest} or less, or leave it out"
        )


def of_encoder(name: str, config: Mapping[str, Any], layers: int, classes: int, tokens: int) -> Anatomy:
    """Count a BERT-like encoder with a pooler, or a head of two layers, for classification; without classes, neither.

    Embeddings narrower than the layers, as ELECTRA's are, go through one more projection. A layer has four (hidden,
    hidden) projections, two feed-forward matrices, their biases and two layer norms. The attention scores and their
    weighted sum add 4 * tokens * hidden operations to each token and layer.

    Args:
        config: a checkpoint's config.json; names as transformers' attribute maps translate them.
        layers: encoder layers kept.
        classes: columns of the head; 0 for an embedder, which has none.
        tokens: length of the input at which the attention's share is counted.
    """
    shape = _shape(config)
    hidden, inner, narrow = shape["hidden_size"], shape["intermediate_size"], shape["embedding_size"]
    matrices = layers * (4 * hidden * hidden + 2 * hidden * inner)
    vectors = layers * (4 * hidden + inner + hidden + 4 * hidden)
    rows = shape["vocab_size"] + shape["max_position_embeddings"] + shape["type_vocab_size"]
    widening = narrow * hidden if narrow != hidden else 0
    embeddings = rows * narrow + 2 * narrow + widening + (hidden if widening else 0)
    head = (hidden * hidden + hidden + hidden * classes + classes) if classes else 0
    parameters = embeddings + matrices + vectors + head
    operations = 2 * (widening + matrices) + layers * 4 * tokens * hidden
    return Anatomy(name, parameters, 4 * parameters, operations, layers, shape["vocab_size"], narrow, hidden)


def of_static(name: str, vocab_size: int, dimensions: int, hidden_size: int, classes: int, tokens: int) -> Anatomy:
    """Count a table of token vectors with a small head; the head's cost is shared by the tokens of one text.

    Without classes there is no head: what a linear map adds, `Anatomy.projected` counts.
    """
    head = (dimensions * hidden_size + hidden_size + hidden_size * classes + classes) if classes else 0
    parameters = vocab_size * dimensions + head
    operations = dimensions + 2 * head // tokens
    return Anatomy(name, parameters, 4 * parameters, operations, 0, vocab_size, dimensions, dimensions)


def layers_of(config: Mapping[str, Any]) -> int:
    """Return the number of layers that a config.json speaks of."""
    own = config.get("n_layers", config.get("n_layer", 0))  # the words of DistilBERT, and of GPT-2
    return int(getattr(_normalized(config), "num_layers", own))


def _shape(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the sizes under BERT's names, whatever the architecture calls them."""
    normalized = _normalized(config)
    hidden: int = normalized.hidden_size
    return {
        "hidden_size": hidden,
        "embedding_size": config.get("embedding_size", hidden),
        "intermediate_size": config.get("intermediate_size", config.get("hidden_dim", 4 * hidden)),
        "vocab_size": normalized.vocab_size,
        "max_position_embeddings": config.get("max_position_embeddings", 0),
        "type_vocab_size": config.get("type_vocab_size", 0),
    }


def _normalized(config: Mapping[str, Any]) -> Any:
    """Return optimum's view of a config.json; an architecture that it does not know is read by BERT's names."""
    try:
        view = NormalizedConfigManager.get_normalized_config_class(config.get("model_type", ""))
    except KeyError:
        view = NormalizedTextConfig
    return view(SimpleNamespace(**config))
