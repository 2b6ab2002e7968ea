"""What architectures call the parts of their encoders, one entry for each that a student can be cut out of."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Of an encoder, whatever its architecture calls them."""

    hidden_size: int
    num_attention_heads: int
    intermediate_size: int


@dataclass(frozen=True)
class EncoderNames:
    """Names of modules, as transformers has them in a checkpoint, and of sizes in config.json."""

    embeddings: str
    layers: str
    hidden_layer: str  # of the head; it reads the stream at the first token; empty where there is no head
    classifier: str
    query: str = "attention.self.query"  # this and those below come after the number of a layer
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    attention_norm: str = "attention.output.LayerNorm"
    inner: str = "intermediate.dense"
    outer: str = "output.dense"
    norm: str = "output.LayerNorm"
    sizes: tuple[str, str, str] = ("hidden_size", "num_attention_heads", "intermediate_size")

    def sizes_in(self, config: Mapping[str, Any]) -> Sizes:
        """Return the sizes that a config.json speaks of."""
        return Sizes(*(int(config[name]) for name in self.sizes))

    def without_head(self) -> "EncoderNames":
        """Return the names in an encoder that is no part of a classifier."""
        _, _, embeddings = self.embeddings.partition(".")
        _, _, layers = self.layers.partition(".")
        return replace(self, embeddings=embeddings, layers=layers, hidden_layer="", classifier="")

    def changed(self, config: Mapping[str, Any], sizes: Sizes) -> dict[str, int]:
        """Return what a config.json says instead for other sizes; embeddings as wide as the layers stay so."""
        words = dict(zip(self.sizes, astuple(sizes), strict=True))
        if config.get("embedding_size") == self.sizes_in(config).hidden_size:
            words["embedding_size"] = sizes.hidden_size
        return words


_ROBERTA = EncoderNames("roberta.embeddings", "roberta.encoder.layer", "classifier.dense", "classifier.out_proj")
ENCODERS: Mapping[str, EncoderNames] = {
    "bert": EncoderNames("bert.embeddings", "bert.encoder.layer", "bert.pooler.dense", "classifier"),
    "camembert": _ROBERTA,
    "distilbert": EncoderNames(
        "distilbert.embeddings", "distilbert.transformer.layer", "pre_classifier", "classifier",
        query="attention.q_lin", key="attention.k_lin", value="attention.v_lin", output="attention.out_lin",
        attention_norm="sa_layer_norm", inner="ffn.lin1", outer="ffn.lin2", norm="output_layer_norm",
        sizes=("dim", "n_heads", "hidden_dim"),
    ),
    "electra": EncoderNames("electra.embeddings", "electra.encoder.layer", "classifier.dense", "classifier.out_proj"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
}  # fmt: skip
"""By model_type. In all of them a LayerNorm comes after each sum, and the head is two layers on the first token."""
