"""Which layers of a language model can go: its loss without each, and without many at once, before any training.

Run: python benchmarks/layers_to_drop.py CHECKPOINT TEXTS.jsonl [--keep 18] [--tokens 1000] [--system WORDS]

CHECKPOINT is a folder of transformers, such as stages/teacher-*/checkpoint of a run; TEXTS has conversations (prompt
and answer), of which the answers are judged, or texts. Printed are the losses without each single layer, then with
`keep` layers left: evenly spaced, as kind `layers` has them; one block gone; those gone whose single loss hurts least;
and, as kind `pruned` chooses them, one layer after another gone that hurts least beside those before it.

Source: Men et al. 2024, "ShortGPT: Layers in Large Language Models are More Redundant Than You Expect",
arXiv:2403.03853, section 3 (layers differ widely in what their removal costs; there by similarity, here by loss).
"""

import argparse
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

from edgedistill.corpus.sources.conversations import as_text
from edgedistill.models.decoder import Decoder, load_decoder
from edgedistill.models.layer_choice import choose, only
from edgedistill.models.load import load_tokenizer
from edgedistill.training.decoder_rows import Row, conversation_row, document_rows, drawn_rows

LONGEST = 512  # tokens of a row


def rows_of(file: Path, tokenizer: object, tokens: int, system: str | None) -> list[Row]:
    """Return rows of the file, so many tokens together."""
    first = [] if system is None else [{"role": "system", "content": system}]
    found: list[tuple[int, Row]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        said = json.loads(line)
        if "text" in said:
            found += [(number, row) for row in document_rows(tokenizer, said["text"], LONGEST)]
        else:
            turns = [{"role": "user", "content": said["prompt"]}, {"role": "assistant", "content": said["answer"]}]
            row = conversation_row(tokenizer, as_text([*first, *turns]), LONGEST)
            found += [] if row is None else [(number, row)]
    return [row for _, row in drawn_rows(found, tokens, lambda row: len(row.ids))]


@torch.no_grad()
def loss_of(model: Decoder, rows: list[Row]) -> float:
    """Return the mean loss of the tokens that count, in nats, with the layers that the model has now."""
    lost = count = 0.0
    for row in rows:
        ids = torch.tensor([row.ids])
        log_probs = model(ids, torch.ones_like(ids))[0, :-1].log_softmax(-1)
        said = log_probs[torch.arange(len(log_probs)), ids[0, 1:]][torch.tensor(row.counts[1:])]
        lost -= float(said.sum())
        count += len(said)
    return lost / count


def main() -> None:
    """Print the losses."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("texts", type=Path)
    arguments.add_argument("--keep", type=int, default=18)
    arguments.add_argument("--tokens", type=int, default=1000)
    arguments.add_argument("--system")
    asked = arguments.parse_args()
    model, tokenizer = load_decoder(asked.checkpoint), load_tokenizer(asked.checkpoint)
    rows = rows_of(asked.texts, tokenizer, asked.tokens, asked.system)
    every = range(model.model.config.num_hidden_layers)
    gone = len(every) - asked.keep

    def loss_with(kept: Iterable[int]) -> float:
        with only(model, list(kept)):
            return loss_of(model, rows)

    print(f"{len(rows)} rows; all {len(every)} layers: {loss_with(every):.3f} nats a token")
    single = {one: loss_with(two for two in every if two != one) for one in every}
    print("without one:", ", ".join(f"{one}: {loss:.2f}" for one, loss in single.items()))
    even = [int(one) for one in np.linspace(0, len(every) - 1, asked.keep).round()]
    print(f"evenly spaced, {asked.keep} left: {loss_with(even):.2f}")
    for first in range(3, len(every) - gone - 1, 3):
        lost = loss_with(one for one in every if not first <= one < first + gone)
        print(f"without {first} to {first + gone - 1}: {lost:.2f}")
    cheap = sorted(single, key=lambda one: single[one])[:gone]
    kept = [one for one in every if one not in cheap]
    print(f"without those that hurt least alone: {loss_with(kept):.2f}\n  layers: {kept}")
    with tempfile.TemporaryDirectory() as folder:
        found = choose(model, lambda: loss_of(model, rows), asked.keep, Path(folder) / "layers.json")
    for left, loss in zip(reversed(every), found.losses[1:], strict=False):
        print(f"one by one, {left} left: {loss:.3f}")
    print(f"  layers: {list(found.layers)}")


if __name__ == "__main__":
    main()
