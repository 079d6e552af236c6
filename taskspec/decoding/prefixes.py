"""Prefixes that many prompts share: a chat template's head, a system message, an instruction.

The target reads each once; prompts that begin with it go on from a copy of its keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import accumulate, groupby

import torch
from torch import Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.row_cache import RowCopy

LEAST_TOKENS = 16
"""A prefix shorter than this, or this little longer than another one, saves next to nothing."""
_SHARE, _FEWEST = 0.05, 3
_MOST_TOKENS = 8192

Prefixes = tuple[tuple[int, ...], ...]


def shared_prefixes(prompts: Iterable[Sequence[int]]) -> Prefixes:
    """The prefixes worth keeping, shorter ones first.

    One is worth keeping when at least a twentieth of the prompts, and three, begin with it and then
    differ. Prompts that say the same count once, so that asking again makes no prefix. Together
    they have 8,192 tokens at most, shorter ones first, since copies stay in memory.

    Args:
        prompts: Token ids of prompts like those that will be decoded.
    """
    ordered = sorted({tuple(prompt) for prompt in prompts})
    fewest = max(_FEWEST, math.ceil(_SHARE * len(ordered)))
    found = []
    waiting = [(ordered, 0)] if len(ordered) >= fewest else []
    while waiting:
        members, kept = waiting.pop()
        shared = _shared_tokens(members[0], members[-1])
        if shared - kept >= LEAST_TOKENS:
            found.append(members[0][:shared])
            kept = shared
        longer = [prompt for prompt in members if len(prompt) > shared]
        branches = (list(own) for _, own in groupby(longer, lambda prompt: prompt[shared]))  # noqa: B023
        waiting += [(branch, kept) for branch in branches if len(branch) >= fewest]
    shorter_first = sorted(found, key=lambda prefix: (len(prefix), prefix))
    together = accumulate(len(prefix) for prefix in shorter_first)
    return tuple(p for p, sum_ in zip(shorter_first, together, strict=True) if sum_ <= _MOST_TOKENS)


def _shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that both begin with; of ordered texts, what the outermost share all share."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


class PrefixCache:
    """What the target made of prefixes, each read when a prompt first begins with it.

    Args:
        model: The target.
        prefixes: Token ids of each.
        hidden_layers: The states wanted of a prompt's tokens, as in `CachedModel.forward`, of which
            the first is the final one.
    """

    def __init__(
        self, model: CachedModel, prefixes: Iterable[Sequence[int]], hidden_layers: tuple[int, ...]
    ) -> None:
        self.model, self.hidden_layers = model, hidden_layers
        self.prefixes = sorted((tuple(prefix) for prefix in prefixes), key=len, reverse=True)
        width = (len(hidden_layers) - 1) * model.config.hidden_size
        self._nothing = torch.empty(0, width, dtype=model.dtype, device=model.device)
        self._read: dict[tuple[int, ...], tuple[RowCopy, Tensor]] = {}

    def begin(self, row: int, prompt: Sequence[int]) -> Tensor:
        """Put into an empty row the longest prefix that leaves something of the prompt to read.

        Args:
            row: The row.
            prompt: Its prompt.

        Returns:
            The prefix's states of the earlier layers wanted [n, H * layers], n of 0 when the prompt
            begins with none.
        """
        prefix = self.longest(prompt)
        if not prefix:
            return self._nothing
        if prefix not in self._read:
            tokens = torch.tensor([prefix], device=self.model.device)
            states = self.model.forward([row], tokens, None, self.hidden_layers)[0]
            earlier = states[:, self.model.config.hidden_size :].clone()
            self._read[prefix] = (self.model.copy_of(row), earlier)
        copy, earlier = self._read[prefix]
        self.model.restore(row, copy)
        return earlier

    def longest(self, prompt: Sequence[int]) -> tuple[int, ...]:
        """The longest prefix that a prompt goes on from; no tokens where there is none."""
        fitting = (p for p in self.prefixes if len(p) < len(prompt) and prompt[: len(p)] == p)
        return next(fitting, ())
