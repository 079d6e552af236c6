"""Bugs planted in verifiers: the conformance kit catches each."""

from __future__ import annotations

import pytest
import torch
from planted import mutants
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection

from taskspec.decoding.sampling import sample
from taskspec.interfaces import Verdict

MUTANTS, mutant = mutants()


@mutant("exact_distribution")
class AcceptsTooOften(Rejection):
    """Noise scaled, so that a few percent too many tokens stand."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        return super().verify(tokens, lengths, draft_probs, target_probs, noise * 0.97)


@mutant("exact_distribution")
class SamplesTargetAfterRefusal(Rejection):
    """Samples p instead of the residual (p - q)+ after a refusal."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        at = target_probs[torch.arange(len(tokens)), verdict.accepted]
        return Verdict(verdict.accepted, sample(at, noise[:, -1]))


@mutant("greedy_call_agrees")
class AcceptsOneTooManyWhenGreedy(Rejection):
    """A shortcut for greedy requests that lets a token stand that the target did not choose."""

    def verify_greedy(self, tokens, lengths, best, vocabulary_size):
        verdict = super().verify_greedy(tokens, lengths, best, vocabulary_size)
        accepted = torch.minimum(verdict.accepted + 1, lengths)
        return Verdict(accepted, best.gather(1, accepted[:, None])[:, 0])


@mutant("equal_distributions_accept_all")
class IgnoresDraftProbabilities(Rejection):
    """Treats a sampled draft as if it were certain: still exact, but accepts far less."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        return super().verify(tokens, lengths, None, target_probs, noise)


@mutant("exact_distribution")
class ReusesAcceptanceNoise(Rejection):
    """The noise that refused a token also samples the next one."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        reused = noise.clone()
        reused[:, -1] = noise[:, 0]
        return super().verify(tokens, lengths, draft_probs, target_probs, reused)


@mutant("impossible_tokens_never_emitted")
class AcceptsAtEquality(Rejection):
    """`u <= p / q` lets a token of probability zero stand when the noise is zero."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        nudged = (noise - 1e-9).clamp(min=-1e-9)
        return super().verify(tokens, lengths, draft_probs, target_probs, nudged)


@mutant("greedy_identity")
class SkipsTheCorrection(Greedy):
    """Emits the target's token one position late."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        best = target_probs.argmax(-1)
        later = (verdict.accepted + 1).clamp(max=best.shape[1] - 1)
        return Verdict(verdict.accepted, best.gather(1, later[:, None])[:, 0])


@mutant("rows_are_independent")
class AcceptsPadding(Rejection):
    """Ignores the lengths of shorter rows."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        full = torch.full_like(lengths, tokens.shape[1])
        return super().verify(tokens, full, draft_probs, target_probs, noise)


@mutant("rows_are_independent")
class StopsWithTheFirstRow(Greedy):
    """All rows accept as few tokens as the worst one."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        least = verdict.accepted.min().expand(len(tokens))
        best = target_probs.argmax(-1)
        return Verdict(least, best.gather(1, least[:, None])[:, 0])


@mutant("noise_is_the_only_randomness")
class OwnRandomness(Rejection):
    """Draws its own noise."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        generator = torch.Generator()
        generator.seed()
        own = torch.rand(noise.shape, generator=generator)
        return super().verify(tokens, lengths, draft_probs, target_probs, own)


@mutant("rounding_leaves_no_gap", raises=RuntimeError)
class DividesUnguarded(Rejection):
    """Normalises an empty residual: NaN."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        if draft_probs is None or not tokens.shape[1]:
            return verdict
        residual = (target_probs[:, 0] - draft_probs[:, 0]).clamp(min=0)
        residual = residual / residual.sum(-1, keepdim=True)
        return Verdict(verdict.accepted, torch.multinomial(residual, 1)[:, 0])


@mutant("bonus_token_after_full_acceptance")
class NoBonusPosition(Greedy):
    """On full acceptance repeats the last drafted position."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        best = target_probs.argmax(-1)
        at = verdict.accepted.clamp(max=max(tokens.shape[1] - 1, 0))
        return Verdict(verdict.accepted, best.gather(1, at[:, None])[:, 0])


@mutant("inputs_unchanged")
class WritesIntoInputs(Rejection):
    """Zeroes the engine's noise."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        noise.zero_()
        return verdict


@pytest.mark.parametrize("planted", MUTANTS, ids=str)
def test_the_kit_catches(planted):
    planted.assert_caught()
