"""The teacher's answers to prompts that have none: rows that its student learns from beside gold.

What a teacher says is easier to learn than what people wrote, and prompts cost less than answers. The answered
conversations stand in train behind those with gold, and are then read by the teacher as all others are, so a student
learns both what was said (cross_entropy) and how sure the teacher was of it (the divergences). The teacher's own fit
and the control without a teacher never see them.

Prompts of like length are answered together, each with a seed of its own. Answers are appended to a file as they come,
so a killed stage goes on after the last whole group, and ends with the same bytes.

Left out, and counted, is a prompt that fills its row; an answer that has no end where its row or max_tokens ends, which
would teach to stop in the middle; an empty one; and one with a special token or half a character in it, which no text
gives back.

Source: Kim and Rush 2016, "Sequence-Level Knowledge Distillation", arXiv:1606.07947, section 3.2; greedy where they
search with beams.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from edgedistill.corpus.read import batches, prompts_of
from edgedistill.corpus.sources.conversations import as_text
from edgedistill.decoder_values import AnsweredCorpus, Answers
from edgedistill.distill.decoder.asking import loaded
from edgedistill.distill.decoder.continuing import Continued, Continuing, OneByOne, Opening, Together
from edgedistill.errors import DataError
from edgedistill.files import linked, sha256_of, sha256_of_text
from edgedistill.models.load import load_tokenizer
from edgedistill.progress import bar
from edgedistill.runtimes._decoder import HALF_CHARACTER, LoadedDecoder
from edgedistill.runtimes.pytorch_decoder import TorchDecoder
from edgedistill.sampling import Sampler, Sampling
from edgedistill.tasks.text_generation import AnswerOptions, Options
from edgedistill.training.decoder_rows import conversation_row
from edgedistill.values import Corpus, Teacher

FILE = "answers.jsonl"
ANSWERED, TOO_LONG, CUT_OFF, EMPTY, UNREADABLE = "answered", "too long", "cut off", "empty", "unreadable"
COLUMNS = ("text", "label", "row_hash")
AT_ONCE = 4096
GROUPS_AT_ONCE = 128  # among so many, prompts of like length are found
Prompt = tuple[str, str]
"""A conversation that ends with the user, as the corpus keeps it, and its row hash."""


@dataclass(frozen=True)
class Said:
    """What the teacher said to one prompt."""

    outcome: str  # ANSWERED or why it is left out
    tokens: int  # said, the one that ends it not among them
    text: str

    def line(self, row_hash: str) -> str:
        """Return it as a line of the file."""
        plain = {"prompt": row_hash, "outcome": self.outcome, "tokens": self.tokens, "answer": self.text}
        return json.dumps(plain, ensure_ascii=False) + "\n"


class Answering:
    """A teacher that answers prompts."""

    def __init__(self, teacher: Teacher, options: AnswerOptions, length: int, threads: int = 1) -> None:
        """Load it where it runs.

        Args:
            teacher: one with a chat template.
            options: of the recipe.
            length: most tokens of a row, prompt and answer together.
            threads: of llama.cpp, where a GGUF file teaches; PyTorch has its own.
        """
        self._options, self._length = options, length
        checkpoint = teacher.path(teacher.checkpoint)
        self._tokenizer = load_tokenizer(checkpoint)
        self._decoder: LoadedDecoder
        self._continuing: Continuing
        if teacher.gguf is None:
            in_pytorch = TorchDecoder(
                checkpoint, threads=torch.get_num_threads(), context_tokens=length, device=Accelerator().device
            )
            self._decoder, self._continuing = in_pytorch, Together(in_pytorch)
        else:
            self._decoder = loaded(teacher, length, threads)
            self._continuing = OneByOne(self._decoder)
        self._known = max(self._tokenizer.get_vocab().values()) + 1  # a model's further rows stand for no token
        self._special = frozenset(self._tokenizer.all_special_ids)

    def answer(self, prompts: Sequence[Prompt]) -> list[Said]:
        """Return what the teacher says to each prompt.

        Args:
            prompts: conversations that end with the user, as the corpus keeps them, and their row hashes.

        Raises:
            DataError: its chat template does not let an answer be told from its prompt.
        """
        asked = [self._asked(*prompt) for prompt in prompts]
        followed = iter(self._continuing.continued([one for one in asked if one.room > 0]))
        return [
            Said(TOO_LONG, 0, "") if one.room < 1 else self._said(prompt, next(followed))
            for (prompt, _), one in zip(prompts, asked, strict=True)
        ]

    def _asked(self, prompt: str, row_hash: str) -> Opening:
        seed = np.random.SeedSequence([self._options.seed, int(row_hash, 16)]).generate_state(1)[0]
        sampler = Sampler(Sampling(self._options.temperature, seed=int(seed)))
        ids = self._decoder.chat(json.loads(prompt))
        room = min(self._options.max_tokens or self._length, self._length - len(ids) - 1)  # one for the end
        return Opening(ids, room, lambda logits: sampler.choose(logits[: self._known]))

    def _said(self, prompt: str, followed: Continued) -> Said:
        text = self._decoder.decode(followed.ids)
        outcome = self._outcome(json.loads(prompt), followed.ids, text, followed.ended)
        return Said(outcome, len(followed.ids), text if outcome == ANSWERED else "")

    def _outcome(self, messages: list[dict[str, str]], ids: list[int], text: str, ended: bool) -> str:
        if not ended:
            return CUT_OFF
        if not text.strip():
            return EMPTY
        if HALF_CHARACTER in text or not self._special.isdisjoint(ids):
            return UNREADABLE
        fits = conversation_row(self._tokenizer, with_answer(messages, text), self._length) is not None
        return ANSWERED if fits else CUT_OFF


def answer(
    options: AnswerOptions, *, task: Options, teacher: Teacher, corpus: Corpus, folder: Path, threads: int = 1
) -> AnsweredCorpus:
    """Return the corpus with the answered conversations behind the rows of train; other splits are the same files.

    Args:
        options: how the teacher answers.
        task: max_length bounds prompt and answer together.
        corpus: with prompts.
        threads: of llama.cpp, where a GGUF file teaches.
        folder: of this stage; what was said goes to answers.jsonl.

    Raises:
        DataError: no prompt was answered.
    """
    total = 0 if corpus.prompts is None else corpus.prompts.rows
    size = options.batch_size if teacher.gguf is None else 1  # llama.cpp is asked one row at a time
    done = _whole_answers(folder / FILE, corpus, size)
    if done < total:
        asked = Answering(teacher, options, task.max_length, threads)
        with (
            (folder / FILE).open("a", encoding="utf-8") as out,
            bar("teacher answers", total, "prompts", done) as advance,
        ):
            for group in islice(_groups(corpus, size), done // size, None):
                said = asked.answer(group)
                out.write("".join(one.line(row_hash) for one, (_, row_hash) in zip(said, group, strict=True)))
                out.flush()
                advance(len(group))
    return _described(options, corpus, size, folder)


def with_answer(messages: list[dict[str, str]], answer: str) -> str:
    """Return a conversation with its answer, as the corpus keeps it."""
    return as_text([*messages, {"role": "assistant", "content": answer}])


def _groups(corpus: Corpus, size: int) -> Iterator[list[Prompt]]:
    """Yield all prompts, so many at a time; of some thousand those of like length together."""
    prompts = prompts_of(corpus)
    while some := list(islice(prompts, size * GROUPS_AT_ONCE)):
        some.sort(key=lambda prompt: len(prompt[0]))
        yield from (some[start : start + size] for start in range(0, len(some), size))


def _whole_answers(file: Path, corpus: Corpus, size: int) -> int:
    """Cut the group that a killed process left half-written off the file; return how many answers it holds then."""
    whole = count = 0
    if file.exists():
        with file.open("rb") as lines:
            for group in _groups(corpus, size):
                said = list(islice(lines, len(group)))
                hashes = [_prompt_of(line) for line in said if line.endswith(b"\n")]
                if hashes != [row_hash for _, row_hash in group]:
                    break
                whole, count = whole + sum(map(len, said)), count + len(group)
        with file.open("rb+") as cut:
            cut.truncate(whole)
    return count


def _prompt_of(line: bytes) -> str | None:
    try:
        found: str = json.loads(line)["prompt"]
    except ValueError:  # a machine that lost its power may leave anything
        return None
    return found


def _answered(corpus: Corpus, size: int, file: Path, counts: Counter[str]) -> Iterator[str]:
    """Yield every answered conversation, and count what became of all prompts."""
    with file.open(encoding="utf-8") as lines:
        for (prompt, _), line in zip(chain.from_iterable(_groups(corpus, size)), lines, strict=True):
            said = json.loads(line)
            counts[said["outcome"]] += 1
            if said["outcome"] == ANSWERED:
                counts["tokens"] += said["tokens"]
                yield with_answer(json.loads(prompt), said["answer"])


def _described(options: AnswerOptions, corpus: Corpus, size: int, folder: Path) -> AnsweredCorpus:
    """Write train anew, the answered conversations behind its rows, and return what lies in the folder."""
    import pyarrow.parquet as pq

    train, counts = corpus.splits["train"], Counter[str]()
    answered = _answered(corpus, size, folder / FILE, counts)
    with pq.ParquetWriter(folder / train.file, pq.read_schema(corpus.path(train.file))) as writer:
        for batch in batches(corpus, "train", *COLUMNS):
            writer.write_batch(batch)
        while some := list(islice(answered, AT_ONCE)):
            writer.write_table(_table(some, writer.schema))
    if not counts[ANSWERED]:
        raise DataError(
            f"the teacher gave no whole answer: {counts[TOO_LONG]} prompts leave no room for one, {counts[CUT_OFF]} "
            f"answers have no end, {counts[EMPTY]} are empty and {counts[UNREADABLE]} unreadable; raise "
            "task.max_length or task.answers.max_tokens, fit the teacher (teacher.fit), or leave data.unlabelled out"
        )
    for split in (*(one for name, one in corpus.splits.items() if name != "train"), corpus.prompts):
        if split is not None:
            linked(corpus.path(split.file), folder / split.file)
    grown = {"rows": train.rows + counts[ANSWERED], "sha256": sha256_of(folder / train.file)}
    return AnsweredCorpus(
        **dict(corpus) | {"splits": {**corpus.splits, "train": train.model_copy(update=grown)}},
        answers=Answers(
            file=FILE,
            made_from=train.rows,
            rows=counts[ANSWERED],
            too_long=counts[TOO_LONG],
            cut_off=counts[CUT_OFF],
            empty=counts[EMPTY],
            unreadable=counts[UNREADABLE],
            tokens=counts["tokens"],
            max_tokens=options.max_tokens,
            batch_size=size,
            temperature=options.temperature,
            seed=options.seed,
        ),
    )


def _table(texts: list[str], schema: Any) -> Any:
    import pyarrow as pa

    hashes = [sha256_of_text(text)[:16] for text in texts]
    return pa.table({"text": texts, "label": [-1] * len(texts), "row_hash": hashes}, schema=schema)
