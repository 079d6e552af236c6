"""Small cases for verifiers, and the statistics that judge them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from scipy.stats import chi2
from torch import Tensor

from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict


@dataclass(frozen=True)
class VerifierCase:
    """What one verification pass is given; see `interfaces.Verifier.verify`."""

    tokens: Tensor
    lengths: Tensor
    draft: Tensor | None
    target: Tensor
    noise: Tensor

    def verify(self, verifier: Any) -> Verdict:
        """Run a verifier on copies, so that nothing it does to them is seen by others."""
        draft = None if self.draft is None else self.draft.clone()
        parts = (self.tokens.clone(), self.lengths.clone(), draft)
        verdict: Verdict = verifier.verify(*parts, self.target.clone(), self.noise.clone())
        return verdict

    def row(self, index: int) -> VerifierCase:
        """One row alone, without the padding that the batch gave it."""
        length = int(self.lengths[index])
        own = self.noise[index]
        return VerifierCase(
            self.tokens[index : index + 1, :length],
            self.lengths[index : index + 1],
            None if self.draft is None else self.draft[index : index + 1, :length],
            self.target[index : index + 1, : length + 1],
            torch.cat([own[:length], own[-1:]])[None],
        )


def random_probs(generator: torch.Generator, *shape: int, zeros: bool = True) -> Tensor:
    """Random distributions over the last axis; with `zeros` some tokens are impossible."""
    weights = torch.rand(shape, generator=generator) ** 2 + 1e-3
    if zeros:
        drop = torch.rand(shape, generator=generator) < 0.3
        drop[..., 0] = False
        weights = weights.masked_fill(drop, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def verifier_case(
    seed: int, rows: int = 6, width: int = 3, size: int = 7, greedy: bool = False
) -> VerifierCase:
    """Ragged rows with random drafts; with `greedy` the target is one-hot and often agreed with."""
    generator = torch.Generator().manual_seed(seed)
    draft = random_probs(generator, rows, width, size)
    target = random_probs(generator, rows, width + 1, size)
    tokens = sample(draft, torch.rand(rows, width, generator=generator))
    if greedy:
        best = target.argmax(-1)
        target = torch.nn.functional.one_hot(best, size).float()
        tokens = torch.where(
            torch.rand(rows, width, generator=generator) < 0.6, best[:, :-1], tokens
        )
    lengths = torch.randint(0, width + 1, (rows,), generator=generator)
    noise = torch.rand(rows, width + 1, generator=generator)
    return VerifierCase(tokens, lengths, None if greedy else draft, target, noise)


@dataclass(frozen=True)
class TextModel:
    """Next-token distributions for every text of up to K + 1 tokens over a tiny vocabulary.

    Attributes:
        tables: Entry i is float32 [V] * i + [V]: the distribution after i given tokens.
    """

    tables: tuple[Tensor, ...]

    @property
    def size(self) -> int:
        """V."""
        return self.tables[0].shape[-1]

    def after(self, tokens: Tensor) -> Tensor:
        """Distributions [N, V] after texts int64 [N, i]."""
        found: Tensor = self.tables[tokens.shape[1]][tuple(tokens.T)]
        return found if tokens.shape[1] else found.expand(len(tokens), -1)

    def along(self, tokens: Tensor, count: int) -> Tensor:
        """Distributions [N, count, V] after each prefix of texts int64 [N, i]."""
        if not count:
            return torch.zeros(len(tokens), 0, self.size)
        return torch.stack([self.after(tokens[:, :place]) for place in range(count)], 1)

    def text_probabilities(self) -> Tensor:
        """float64 [V ** (K + 1)], the probability of every full text, in lexical order."""
        texts = list(itertools.product(range(self.size), repeat=len(self.tables)))
        tokens = torch.tensor(texts)
        each = [
            self.after(tokens[:, :place]).double().gather(1, tokens[:, place, None])[:, 0]
            for place in range(len(self.tables))
        ]
        return torch.stack(each).prod(0)


def text_model(generator: torch.Generator, size: int, length: int, temperature: float) -> TextModel:
    """A random text model; some tokens are impossible after some texts."""
    tables = []
    for place in range(length):
        probs = random_probs(generator, *([size] * (place + 1))).double() ** (1 / temperature)
        tables.append((probs / probs.sum(-1, keepdim=True)).float())
    return TextModel(tuple(tables))


def speculate(
    verifier: Any, draft: TextModel, target: TextModel, width: int, count: int, seed: int
) -> Tensor:
    """Texts int64 [count, K + 1]: one verified pass, then the target's own samples to the end.

    Lossless verification leaves them distributed as the target's.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.zeros(count, 0, dtype=torch.int64)
    for _ in range(width):
        drawn = sample(draft.after(tokens), torch.rand(count, generator=generator))
        tokens = torch.cat([tokens, drawn[:, None]], 1)
    noise = torch.rand(count, width + 1, generator=generator)
    lengths = torch.full((count,), width)
    q, p = draft.along(tokens, width), target.along(tokens, width + 1)
    verdict = verifier.verify(tokens, lengths, q, p, noise)
    accepted, following = verdict.accepted, verdict.next_token
    place = torch.arange(width + 1)
    padded = torch.nn.functional.pad(tokens, (0, 1))
    text = torch.where(place == accepted[:, None], following[:, None], padded)
    for column in range(1, width + 1):
        drawn = sample(target.after(text[:, :column]), torch.rand(count, generator=generator))
        text[:, column] = torch.where(column > accepted, drawn, text[:, column])
    return text


def text_numbers(texts: Tensor, size: int) -> Tensor:
    """The lexical number of each text."""
    number = torch.zeros(len(texts), dtype=torch.int64)
    for column in texts.T:
        number = number * size + column
    return number


def p_value(drawn: Tensor, expected: Tensor) -> float:
    """Chi-square test of draws against probabilities; an impossible draw gives zero.

    Cells that expect fewer than five draws are pooled.
    """
    counts = torch.bincount(drawn, minlength=len(expected)).double()
    if counts[expected == 0].sum() > 0:
        return 0.0
    wanted = expected.double() / expected.double().sum() * len(drawn)
    keep = wanted >= 5
    observed = torch.cat([counts[keep], counts[~keep].sum()[None]])
    hoped = torch.cat([wanted[keep], wanted[~keep].sum()[None]])
    if hoped[-1] < 5:
        observed, hoped = observed[:-1], hoped[:-1]
    if len(hoped) < 2:
        return 1.0
    statistic = float(((observed - hoped) ** 2 / hoped).sum())
    return float(chi2.sf(statistic, len(hoped) - 1))
