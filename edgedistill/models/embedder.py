"""Sentence embedders: the two kinds of module that teachers and students of sentence vectors are.

Source: Reimers, Gurevych 2019, "Sentence-BERT", arXiv:1908.10084, section 3 (pooling over token vectors); the static
kind is the embedding model of Model2Vec (https://github.com/MinishLab/model2vec) with a linear map behind it.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgedistill.errors import ModelError
from edgedistill.models import sentence_transformers as layout
from edgedistill.models.classifier import rank_setting
from edgedistill.models.config_json import STATIC_EMBEDDER
from edgedistill.models.factorised import RANK, FactorisedEmbedding
from edgedistill.models.pooling import pooled

OUTPUT = "sentence_embedding"
DENSE_WEIGHT = "linear.weight"  # what sentence-transformers calls the weight of its linear map


class TransformerEmbedder(nn.Module):
    """A transformers encoder, pooling, perhaps a linear map, perhaps normalisation; called with ids and mask alone."""

    OUTPUT = OUTPUT
    labels: tuple[str, ...] = ()

    def __init__(self, model: Any, pooling: layout.Pooling, *, normalize: bool, dense: nn.Linear | None = None) -> None:
        super().__init__()
        if getattr(model, "pooler", None) is not None:
            model.pooler = None  # made for a head that is not here; nothing reads it
        self.model, self.pooling, self.normalize, self.dense = model, pooling, normalize, dense

    @property
    def width(self) -> int:
        """Numbers in a sentence's vector."""
        return int(self.model.config.hidden_size if self.dense is None else self.dense.out_features)

    @property
    def token_table(self) -> Any:
        """What gives each token its vector."""
        return self.model.get_input_embeddings()

    def replace_token_table(self, table: nn.Module) -> None:
        """Put another module where the token table is."""
        self.model.set_input_embeddings(table)

    def around(self, model: Any) -> "TransformerEmbedder":
        """Return the same steps behind another encoder; the linear map only where it still fits."""
        fits = self.dense is not None and self.dense.in_features == model.config.hidden_size
        return TransformerEmbedder(
            model, self.pooling, normalize=self.normalize, dense=self.dense if fits else None
        ).eval()

    def project(self, weight: Tensor) -> None:
        """Put a linear map, (width, numbers pooled), between pooling and normalisation."""
        self.dense = linear(weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return sentence vectors, (batch, width), of ids and mask, both (batch, tokens) int64."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        vector = pooled(hidden, attention_mask, self.pooling)
        if self.dense is not None:
            vector = self.dense(vector)
        return F.normalize(vector, dim=-1) if self.normalize else vector

    def save(self, folder: Path) -> None:
        """Write the encoder's checkpoint, and around it the layout of sentence-transformers."""
        self.model.save_pretrained(folder)
        _add(folder / "config.json", rank_setting(self))
        dense = "" if self.dense is None else layout.DENSE_FOLDER
        steps = layout.Steps(self.pooling, self.normalize, dense)
        layout.write(folder, steps, self.model.config.hidden_size, self.width)
        if self.dense is not None:
            save_file({DENSE_WEIGHT: self.dense.weight.contiguous()}, folder / dense / "model.safetensors")


class StaticEmbedder(nn.Module):
    """A table of token vectors, their mean, a linear map to the teacher's width, and normalisation.

    Tokens that only frame a text are left out of the mean, as sentence-transformers leaves them out.
    """

    OUTPUT = OUTPUT
    labels: tuple[str, ...] = ()

    def __init__(
        self, vocab_size: int, dimensions: int, width: int, frame: tuple[int, ...], rank: int | None = None
    ) -> None:
        super().__init__()
        self.frame = frame
        self.embedding: Any = (
            nn.Embedding(vocab_size, dimensions) if rank is None else FactorisedEmbedding(vocab_size, rank, dimensions)
        )
        self.dropout = nn.Dropout(0.1)
        self.dense = nn.Linear(dimensions, width, bias=False)

    @property
    def width(self) -> int:
        """Numbers in a sentence's vector."""
        return self.dense.out_features

    @property
    def token_table(self) -> Any:
        """What gives each token its vector."""
        return self.embedding

    def replace_token_table(self, table: nn.Module) -> None:
        """Put another module where the token table is."""
        self.embedding = table

    def project(self, weight: Tensor) -> None:
        """Put another linear map, (width, dimensions of the table), behind the mean."""
        self.dense = linear(weight)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return sentence vectors, (batch, width), of ids and mask, both (batch, tokens) int64."""
        for token in self.frame:
            attention_mask = attention_mask * (input_ids != token)
        mean = pooled(self.embedding(input_ids), attention_mask, "mean")
        return F.normalize(self.dense(self.dropout(mean)), dim=-1)

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors, and around them the layout of sentence-transformers."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "architectures": [STATIC_EMBEDDER],
            "model_type": "bert",  # has no layers; this type every stock loader knows, whatever the teacher's was
            "vocab_size": self.embedding.num_embeddings,
            "hidden_size": self.embedding.embedding_dim,
            "num_hidden_layers": 0,
            "frame_token_ids": list(self.frame),
            **rank_setting(self),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        layout.write_static(folder, self.embedding.embedding_dim, self.width)
        table = {name: tensor.contiguous() for name, tensor in self.state_dict().items() if name != "dense.weight"}
        save_file(table, folder / "model.safetensors")
        save_file({DENSE_WEIGHT: self.dense.weight.contiguous()}, folder / layout.DENSE_FOLDER / "model.safetensors")

    @classmethod
    def read(cls, folder: Path, config: dict[str, Any]) -> "StaticEmbedder":
        """Return the embedder that `save` wrote."""
        dense = load_file(folder / layout.DENSE_FOLDER / "model.safetensors")[DENSE_WEIGHT]
        sizes = (config["vocab_size"], config["hidden_size"], len(dense))
        model = cls(*sizes, tuple(config["frame_token_ids"]), rank=config.get(RANK))
        model.load_state_dict({**load_file(folder / "model.safetensors"), "dense.weight": dense})
        return model


Embedder = TransformerEmbedder | StaticEmbedder


def dense_in(folder: Path) -> nn.Linear:
    """Return the linear map of a folder of sentence-transformers: without an offset, and with nothing behind it.

    Raises:
        ModelError: it has another activation, or an offset, or its weights cannot be read.
    """
    try:
        weights = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{folder} has no matrix in model.safetensors that can be read ({error}); fetch it again, and convert a "
            "pickle where you trust it"
        ) from error
    layout.check_plain(folder, weights)
    return linear(weights[DENSE_WEIGHT])


def linear(weight: Tensor) -> nn.Linear:
    """Return the linear map of a matrix, (out, in), without an offset."""
    with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        made.weight.copy_(weight)
    return made


def projected(model: "Embedder", width: int, projection: Tensor | None) -> None:
    """Give a student vectors of another width, or in other directions; seed torch before.

    Args:
        width: numbers in the vector afterwards.
        projection: (teacher's width, width), orthonormal columns; where the student's vectors are as wide as the
            teacher's they are turned by it, else a new linear map is drawn.
    """
    inner = None if model.dense is None else model.dense.weight.detach()
    if projection is not None and model.width == len(projection):
        turned = projection.T
        model.project(turned if inner is None else turned @ inner)
    elif projection is not None or model.width != width:
        pooled_width = model.width if inner is None else inner.shape[1]
        model.project(nn.Linear(pooled_width, width, bias=False).weight.detach())


def _add(file: Path, more: dict[str, Any]) -> None:
    if more:
        config = json.loads(file.read_text(encoding="utf-8")) | more
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
