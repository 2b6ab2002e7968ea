"""How many of a teacher's tokens a domain needs, and what reading without the others costs.

    python benchmarks/vocabulary.py CHECKPOINT data/speeches/train.jsonl data/speeches/held_out.jsonl

CHECKPOINT is a folder of transformers, such as `checkpoint` in the stage `teacher` of a run. Of each held-out text,
1,000 characters from its middle are read by the teacher, in kept tokens and in its own.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgedistill.distill.decoder.own_reading import WholeTeacher
from edgedistill.distill.decoder.vocabulary import Readers
from edgedistill.models.config_json import read_config
from edgedistill.models.decoder import load_decoder
from edgedistill.models.decoder_vocabulary import first_pieces, of_generation, of_template, written_of
from edgedistill.models.load import load_tokenizer
from edgedistill.models.tokenizer_json import write_trimmed
from edgedistill.models.vocabulary import chosen
from edgedistill.section import VocabularyOptions
from edgedistill.tasks.text_generation import Options
from edgedistill.training.decoder_rows import rows_of_texts, write_rows
from edgedistill.training.folding import Folding
from edgedistill.training.language import logits_of_row
from edgedistill.training.positions import positions_of

SIZES: tuple[dict[str, int], ...] = ({"min_count": 1}, {"min_count": 2}, {"size": 16384}, {"size": 8192})
CHARACTERS, LONGEST = 1000, 512


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("checkpoint", "train", "held_out"):
        parser.add_argument(name, type=Path)
    given = parser.parse_args()
    whole, model = load_tokenizer(given.checkpoint), load_decoder(given.checkpoint)
    train, held_out = (
        [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
        for file in (given.train, given.held_out)
    )
    ids = np.concatenate([whole(text, verbose=False)["input_ids"] for text in train]).astype(int)
    counts = np.bincount(ids, minlength=len(whole))
    needed = of_template(whole) | of_generation(given.checkpoint)
    answer, parameters = logits_of_row(model, torch.device("cpu")), sum(one.numel() for one in model.parameters())
    for options in SIZES:
        kept = chosen(VocabularyOptions(**options), whole, read_config(given.checkpoint), counts, needed)
        with tempfile.TemporaryDirectory() as place:
            write_trimmed(whole, kept.tolist(), Path(place))
            own = load_tokenizer(Path(place))
            said = Readers(whole, own, kept).compared(iter(held_out), documents=True)
            reading, moved = _read(answer, whole, own, kept, held_out, Path(place))
        left = parameters - (model.vocab_size - len(kept)) * model.token_table.weight.shape[1]
        print(
            f"{options}: {len(kept):,} tokens, {left / 1e6:.1f} million parameters of the teacher's; held out: "
            f"{said.identical_passages / said.passages:.1%} of {said.passages:,} sentences read as before, "
            f"{said.tokens / said.whole_tokens - 1:.1%} more tokens, {moved:.1%} of the teacher's probability moved, "
            f"its loss {reading.whole_loss.value:.3f} nats a byte in its own tokens, "
            f"{reading.difference.value:.3f} ({reading.difference.low:.3f} to {reading.difference.high:.3f}) more "
            "in kept ones",
            flush=True,
        )


def _read(answer: Any, whole: Any, own: Any, kept: np.ndarray, texts: list[str], place: Path) -> tuple[Any, float]:
    """Return what the teacher loses, and the mean probability that it gives to dropped tokens."""
    middles = [text[len(text) // 2 :][:CHARACTERS].partition(" ")[2] for text in texts]
    folding = Folding(kept, first_pieces(written_of(whole), written_of(own), kept))
    files = {part: place / f"{part}.npy" for part in ("token_ids", "offsets", "counts", "texts")}
    rows = write_rows(rows_of_texts(own, middles, LONGEST, conversations=False), files, own.pad_token_id, None)
    moved: list[np.ndarray] = []

    def folded(ids: Any) -> np.ndarray:
        said = answer(folding.ids(ids))
        moved.append(folding.moved(said))
        return folding.logits(said)

    log_probs = positions_of(folded, rows.counted, len(kept))["log_prob"]
    teacher = WholeTeacher(answer, whole, own, folding, Options(kind="text_generation", max_length=LONGEST))
    return teacher.readings(middles, rows, log_probs), float(np.concatenate(moved).mean())


if __name__ == "__main__":
    main()
