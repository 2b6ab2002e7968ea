"""Classifiers: the two kinds of module that teachers and students are, with one way to call, save and name labels."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from edgedistill.models.config_json import SEVERAL, STATIC
from edgedistill.models.factorised import RANK, FactorisedEmbedding, rank_of
from edgedistill.models.pooling import pooled

OUTPUT = "logits"


class TransformerClassifier(nn.Module):
    """A transformers sequence classifier, called with ids and mask alone."""

    OUTPUT = OUTPUT

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the logits."""
        id2label = self.model.config.id2label
        return tuple(str(id2label[i]) for i in range(len(id2label)))

    @property
    def several(self) -> bool:
        """Whether several labels may hold at once, so that each logit has a sigmoid of its own."""
        return bool(self.model.config.problem_type == SEVERAL)

    @several.setter
    def several(self, wanted: bool) -> None:
        if wanted != self.several:
            self.model.config.problem_type = SEVERAL if wanted else None

    @property
    def width(self) -> int:
        """Numbers in an answer: one logit for each class."""
        return len(self.labels)

    def around(self, model: Any) -> "TransformerClassifier":
        """Return another classifier of transformers, called in the same way."""
        return TransformerClassifier(model)

    @property
    def token_table(self) -> Any:
        """What gives each token its vector."""
        return self.model.get_input_embeddings()

    def replace_token_table(self, table: nn.Module) -> None:
        """Put another module where the token table is."""
        self.model.set_input_embeddings(table)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, (batch, classes), of ids and mask, both (batch, tokens) int64."""
        logits: Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask).logits
        return logits

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        self.model.save_pretrained(folder)
        file = folder / "config.json"
        own = _names(self.labels) | rank_setting(self)  # transformers leaves LABEL_0 and LABEL_1 out
        config = json.loads(file.read_text(encoding="utf-8")) | own
        file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


class StaticClassifier(nn.Module):
    """A table of token vectors, their mean, and a small head: no token sees another.

    Source: the table with mean pooling is the static embedding model of Model2Vec
    (https://github.com/MinishLab/model2vec); the head with one hidden layer is ours to train on soft labels.
    """

    OUTPUT = OUTPUT

    def __init__(
        self, vocab_size: int, dimensions: int, hidden_size: int, labels: tuple[str, ...], rank: int | None = None
    ) -> None:
        super().__init__()
        self.labels = labels
        self.several = False  # whether several labels may hold at once, so that each logit has a sigmoid of its own
        self.embedding: Any = (
            nn.Embedding(vocab_size, dimensions) if rank is None else FactorisedEmbedding(vocab_size, rank, dimensions)
        )
        self.hidden = nn.Linear(dimensions, hidden_size)
        self.dropout = nn.Dropout(0.2)
        self.output = nn.Linear(hidden_size, len(labels))

    @property
    def width(self) -> int:
        """Numbers in an answer: one logit for each class."""
        return len(self.labels)

    @property
    def token_table(self) -> Any:
        """What gives each token its vector."""
        return self.embedding

    def replace_token_table(self, table: nn.Module) -> None:
        """Put another module where the token table is."""
        self.embedding = table

    def pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean vector of each text's tokens, (batch, dimensions)."""
        return pooled(self.embedding(input_ids), attention_mask, "mean")

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return logits, (batch, classes), of ids and mask, both (batch, tokens) int64."""
        hidden = torch.relu(self.hidden(self.dropout(self.pool(input_ids, attention_mask))))
        logits: Tensor = self.output(hidden)
        return logits

    def save(self, folder: Path) -> None:
        """Write config.json and model.safetensors."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "architectures": [STATIC],
            "model_type": "bert",  # has no layers; this type every stock loader knows, whatever the teacher's was
            "vocab_size": self.embedding.num_embeddings,
            "hidden_size": self.embedding.embedding_dim,
            "intermediate_size": self.hidden.out_features,
            "num_hidden_layers": 0,
            **_names(self.labels),
            **({"problem_type": SEVERAL} if self.several else {}),
            **rank_setting(self),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        save_file(
            {name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors"
        )

    @classmethod
    def read(cls, folder: Path, config: dict[str, Any]) -> "StaticClassifier":
        """Return the classifier that `save` wrote."""
        labels = tuple(config["id2label"][str(i)] for i in range(len(config["id2label"])))
        sizes = (config["vocab_size"], config["hidden_size"], config["intermediate_size"])
        model = cls(*sizes, labels=labels, rank=config.get(RANK))
        model.several = config.get("problem_type") == SEVERAL
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model


Classifier = TransformerClassifier | StaticClassifier


def _names(labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def rank_setting(model: Any) -> dict[str, int]:
    """Return what config.json says of a token table in two factors; nothing where it is whole."""
    rank = rank_of(model)
    return {} if rank is None else {RANK: rank}
