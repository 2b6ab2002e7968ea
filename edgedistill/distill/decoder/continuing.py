"""Continuing prompts with what a teacher says: many together in PyTorch, one after another in llama.cpp.

A token alone uses little of a processor; so many rows are decoded at a time, the shorter ones padded on the left, until
the last of them has ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from edgedistill.runtimes._decoder import LoadedDecoder
from edgedistill.runtimes.pytorch_decoder import TorchDecoder

PADDING = 0  # any id: it is masked
MOST_CACHE_BYTES = 2**31  # of keys and values; a constant, so that every machine splits the same batches
Choose = Callable[[np.ndarray], int]
"""Logits, (vocabulary,) float32 -> the id of the next token."""


@dataclass(frozen=True)
class Opening:
    """A prompt that is to be continued."""

    ids: list[int]
    room: int  # most tokens that may follow, the one that ends them not among them
    choose: Choose


@dataclass(frozen=True)
class Continued:
    """What followed a prompt."""

    ids: list[int]
    ended: bool  # the model ended it itself


class Continuing(Protocol):
    """A teacher that continues prompts."""

    def continued(self, prompts: Sequence[Opening]) -> list[Continued]:
        """Return what follows each."""


class OneByOne:
    """A decoder that reads one row at a time, each with an empty cache."""

    def __init__(self, decoder: LoadedDecoder) -> None:
        self._decoder = decoder

    def continued(self, prompts: Sequence[Opening]) -> list[Continued]:
        """Return what follows each prompt, which depends on no other."""
        return [self._continued(prompt) for prompt in prompts]

    def _continued(self, prompt: Opening) -> Continued:
        self._decoder.reset()
        said: list[int] = []
        logits = self._decoder.prefill(prompt.ids)
        while (token := prompt.choose(logits)) not in self._decoder.ends:
            if len(said) == prompt.room:
                return Continued(said, False)
            said.append(token)
            logits = self._decoder.step(token)
        return Continued(said, True)


class Together:
    """A checkpoint in PyTorch as float32, which reads many rows at a time.

    A row's neighbours change how its sums are rounded, so where two tokens are all but equally likely, another may be
    said than alone.
    """

    def __init__(self, decoder: TorchDecoder) -> None:
        self._model, self._device, self._ends = decoder.model, decoder.device, decoder.ends
        self._cache_bytes = decoder.kv_cache_bytes
        self._context = self._model.config.max_position_embeddings

    def continued(self, prompts: Sequence[Opening]) -> list[Continued]:
        """Return what follows each prompt."""
        if not prompts:
            return []
        longest = max(len(prompt.ids) for prompt in prompts)
        new = max(prompt.room for prompt in prompts) + 1  # one for the end
        too_large = len(prompts) * self._cache_bytes(longest + new) > MOST_CACHE_BYTES
        if len(prompts) > 1 and (longest + new > self._context or too_large):
            half = len(prompts) // 2  # a row that has ended is read on, up to where the others end
            return self.continued(prompts[:half]) + self.continued(prompts[half:])
        said = self._generated(prompts, longest, new)
        return [self._cut(row, prompt.room) for row, prompt in zip(said, prompts, strict=True)]

    def _generated(self, prompts: Sequence[Opening], longest: int, new: int) -> list[list[int]]:
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        ids, mask = (np.full((len(prompts), longest), fill) for fill in (PADDING, 0))
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt.ids) :], mask[row, longest - len(prompt.ids) :] = prompt.ids, 1
        settings: Any = GenerationConfig(  # type: ignore[no-untyped-call]
            do_sample=False, max_new_tokens=new, eos_token_id=sorted(self._ends) or None, pad_token_id=PADDING
        )
        self._model.generation_config = settings  # a checkpoint's own may penalise what it has said before
        given, read = (torch.from_numpy(array).to(self._device) for array in (ids, mask))
        said: list[list[int]] = self._model.generate(
            given,
            attention_mask=read,
            generation_config=settings,
            logits_processor=LogitsProcessorList([_chosen_by(prompts)]),
            stopping_criteria=StoppingCriteriaList([_full(prompts, longest)]),
        )[:, longest:].tolist()
        return said

    def _cut(self, said: list[int], room: int) -> Continued:
        for place, token in enumerate(said[: room + 1]):
            if token in self._ends:
                return Continued(said[:place], True)
        return Continued(said[:room], False)


def _chosen_by(prompts: Sequence[Opening]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Return what leaves a single possible token in each row, the one that its prompt chooses."""

    def only(_: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        each = logits.float().cpu().numpy()
        chosen = [prompt.choose(row) for prompt, row in zip(prompts, each, strict=True)]
        left = torch.full_like(logits, -torch.inf)
        left[torch.arange(len(chosen)), chosen] = 0
        return left

    return only


def _full(prompts: Sequence[Opening], longest: int) -> Callable[..., torch.Tensor]:
    """Return what tells, of each row, whether it has one token more than it has room for."""
    rooms = torch.tensor([prompt.room for prompt in prompts])

    def full(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
        return (rooms < ids.shape[1] - longest).to(ids.device)

    return full
