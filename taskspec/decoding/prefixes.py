"""Prefixes that many prompts share: a chat template's head, a system message, an instruction.

The target reads each once; prompts that begin with it go on from a copy of its keys and values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

import torch
from torch import Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.row_cache import RowCopy

LEAST_TOKENS = 16
"""A prefix shorter than this, or this little longer than another one, saves next to nothing."""
_SHARE, _FEWEST, _MOST = 0.05, 2, 32

Prefixes = tuple[tuple[int, ...], ...]


def shared_prefixes(prompts: Iterable[Sequence[int]]) -> Prefixes:
    """The prefixes worth keeping, shorter ones first.

    One is worth keeping when at least a twentieth of the prompts begin with it and then differ.
    Prompts that say the same count once, so that asking twice makes no prefix.

    Args:
        prompts: Token ids of prompts like those that will be decoded.
    """
    ordered = sorted({tuple(prompt) for prompt in prompts})
    fewest = max(_FEWEST, round(_SHARE * len(ordered)))
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
    return tuple(sorted(found, key=lambda prefix: (len(prefix), prefix))[:_MOST])


def _shared_tokens(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that both begin with; of ordered texts, what the outermost share all share."""
    pairs = zip(first, second, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


class PrefixCache:
    """What the target made of prefixes, each read when a prompt first begins with it.

    Args:
        model: The target.
        prefixes: Token ids of each.
        hidden_layers: The states wanted of a prompt's tokens, as in `CachedModel.forward`.
    """

    def __init__(
        self, model: CachedModel, prefixes: Iterable[Sequence[int]], hidden_layers: tuple[int, ...]
    ) -> None:
        self.model, self.hidden_layers = model, hidden_layers
        self.prefixes = sorted((tuple(prefix) for prefix in prefixes), key=len, reverse=True)
        self._read: dict[tuple[int, ...], tuple[RowCopy, Tensor]] = {}

    def begin(self, row: int, prompt: Sequence[int]) -> Tensor | None:
        """Put into an empty row the longest prefix that leaves something of the prompt to read.

        Args:
            row: The row.
            prompt: Its prompt.

        Returns:
            The prefix's states [n, H * layers]; None when the prompt begins with none.
        """
        fitting = (p for p in self.prefixes if len(p) < len(prompt) and prompt[: len(p)] == p)
        prefix = next(fitting, None)
        if prefix is None:
            return None
        if prefix not in self._read:
            tokens = torch.tensor([prefix], device=self.model.device)
            states = self.model.forward([row], tokens, None, self.hidden_layers)[0]
            self._read[prefix] = (self.model.copy_of(row), states)
            return states
        copy, states = self._read[prefix]
        self.model.restore(row, copy)
        return states
