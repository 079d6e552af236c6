"""What a certificate of losslessness says."""

from __future__ import annotations

from dataclasses import dataclass

LEAST_P_VALUE = 1e-4
"""Sampled answers less likely than this, were they the target's, are taken for another's."""


@dataclass(frozen=True)
class GreedyFinding:
    """Greedy answers beside those of plain decoding, one by one.

    Attributes:
        dtype: The target's and the drafts'.
        combinations: Prompts times settings.
        mismatches: What differs, and where; ties left out.
        ties: Answers that differ first where two logits are as good as equal; none in float32.
        widest_tie: Largest relative gap between the two logits there.
    """

    dtype: str
    combinations: int
    mismatches: tuple[str, ...]
    ties: int
    widest_tie: float

    @property
    def passed(self) -> bool:
        """Nothing differs."""
        return not self.mismatches


@dataclass(frozen=True)
class SampledFinding:
    """Sampled answers under the target's own distribution.

    Were every token drawn from it, its randomised rank there, the mass of more probable tokens
    plus a uniform share of its own, would be uniform, and independent of what came before.

    Attributes:
        temperature: The logits processors.
        top_k: 0 for all tokens.
        top_p: 1 for all tokens.
        answers: Answers sampled with drafts.
        tokens: Their tokens, the first ones left out: no draft has a part in them.
        impossible: Tokens that the target never says.
        p_value: Of Kolmogorov and Smirnov's test that the ranks are uniform.
    """

    temperature: float
    top_k: int
    top_p: float
    answers: int
    tokens: int
    impossible: int
    p_value: float

    @property
    def passed(self) -> bool:
        """Nothing speaks against the target's distribution."""
        return self.impossible == 0 and self.p_value >= LEAST_P_VALUE


@dataclass(frozen=True)
class FaultFinding:
    """What a fault planted in the engine brought about.

    Attributes:
        fault: What the engine did wrong.
        mismatches: Greedy answers that differed.
        answers: Greedy answers compared.
        p_value: Of the sampled answers; 0 with impossible tokens; None without such a test.
        broken_rules: The verifier's rules that it broke; None for a fault outside the verifier.
    """

    fault: str
    mismatches: int
    answers: int
    p_value: float | None
    broken_rules: tuple[str, ...] | None = None

    @property
    def caught(self) -> bool:
        """Whether one of the tests saw it."""
        unlikely = self.p_value is not None and self.p_value < LEAST_P_VALUE
        return self.mismatches > 0 or unlikely or bool(self.broken_rules)


@dataclass(frozen=True)
class Certificate:
    """Every test and what it found."""

    greedy: tuple[GreedyFinding, ...]
    sampled: tuple[SampledFinding, ...]
    faults: tuple[FaultFinding, ...]

    @property
    def passed(self) -> bool:
        """Nothing was lost, and the tests would have seen every planted fault."""
        kept = all(one.passed for one in self.greedy) and all(one.passed for one in self.sampled)
        return kept and all(one.caught for one in self.faults)
