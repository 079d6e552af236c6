"""Checks of verifiers: what is emitted has exactly the target's distribution."""

from __future__ import annotations

from typing import Any

import torch

from taskspec.testing.check import check, require
from taskspec.testing.toy_verification import (
    VerifierCase,
    p_value,
    random_probs,
    speculate,
    text_model,
    text_numbers,
    verifier_case,
)

_DRAWS = 150_000
_CASES = [
    (temperature, width, size)
    for temperature in (0.4, 1.0, 1.8)
    for width, size in ((1, 4), (2, 4), (3, 3), (4, 2))
]
_LEVEL = 1e-6 / len(_CASES)
_SEEDS = range(20)


@check("verifier")
def check_exact_distribution(verifier: Any) -> None:
    """Texts have the target's joint distribution, at several temperatures and draft lengths.

    Every text of a tiny language is counted, so that an error at any place and any dependence
    between places shows (chi-square, family-wise level 1e-6).
    """
    if not (verifier.lossless and verifier.samples):
        return
    for number, (temperature, width, size) in enumerate(_CASES):
        generator = torch.Generator().manual_seed(number)
        target = text_model(generator, size, width + 1, temperature)
        draft = text_model(generator, size, width, temperature)
        texts = speculate(verifier, draft, target, width, _DRAWS, seed=number)
        p = p_value(text_numbers(texts, size), target.text_probabilities())
        require(
            p > _LEVEL,
            f"at temperature {temperature}, {width} drafted tokens and {size} words, emitted texts "
            f"do not have the target's distribution (p = {p:.1e})",
        )


@check("verifier")
def check_exact_for_deterministic_drafts(verifier: Any) -> None:
    """Drafts without probabilities (one-hot) leave the target's distribution as it is."""
    if not (verifier.lossless and verifier.samples):
        return
    generator = torch.Generator().manual_seed(0)
    target = text_model(generator, 4, 3, 1.0)
    drafted = torch.tensor([[1, 2]]).expand(_DRAWS, 2)
    noise = torch.rand(_DRAWS, 3, generator=generator)
    verdict = verifier.verify(
        drafted, torch.full((_DRAWS,), 2), None, target.along(drafted, 3), noise
    )
    first = torch.where(verdict.accepted > 0, drafted[:, 0], verdict.next_token)
    p = p_value(first, target.tables[0])
    require(p > 1e-7, f"the first token does not have the target's distribution (p = {p:.1e})")
    once = verdict.accepted >= 1
    second = torch.where(verdict.accepted > 1, drafted[:, 1], verdict.next_token)[once]
    p = p_value(second, target.after(torch.tensor([[1]]))[0])
    require(p > 1e-7, f"the second token does not have the target's distribution (p = {p:.1e})")


@check("verifier")
def check_greedy_identity(verifier: Any) -> None:
    """With a one-hot target, exactly the agreeing prefix stands and the target's token follows."""
    if not verifier.lossless:
        return
    for seed in _SEEDS:
        case = verifier_case(seed, rows=40, greedy=True)
        verdict = case.verify(verifier)
        best = case.target.argmax(-1)
        drafted = torch.arange(case.tokens.shape[1]) < case.lengths[:, None]
        agrees = ((case.tokens == best[:, :-1]) & drafted).long().cumprod(1).sum(1)
        require(
            torch.equal(verdict.accepted, agrees),
            f"accepted {verdict.accepted.tolist()} where the target agrees with {agrees.tolist()}",
        )
        follows = best.gather(1, agrees[:, None])[:, 0]
        require(torch.equal(verdict.next_token, follows), "the token after is not the target's")


@check("verifier")
def check_equal_distributions_accept_all(verifier: Any) -> None:
    """Where draft and target agree entirely, every drafted token stands.

    Left out for verifiers that are not lossless: they may look at the target alone.
    """
    if not (verifier.samples and verifier.lossless):
        return
    case = verifier_case(1, rows=400, width=4)
    target = case.target.clone()
    draft = target[:, :4]
    tokens = torch.multinomial(
        draft.reshape(-1, draft.shape[-1]), 1, generator=torch.Generator().manual_seed(2)
    ).reshape(400, 4)
    lengths = torch.full((400,), 4)
    verdict = VerifierCase(tokens, lengths, draft, target, case.noise).verify(verifier)
    require(bool((verdict.accepted == 4).all()), "refuses tokens although p equals q")


@check("verifier")
def check_disjoint_support_rejects_at_once(verifier: Any) -> None:
    """A token that the target never says is refused, whatever the noise, without NaN."""
    draft = torch.tensor([[[1.0, 0.0, 0.0]]])
    target = torch.tensor([[[0.0, 0.5, 0.5], [0.0, 1.0, 0.0]]])
    if not verifier.samples:
        target[0, 0] = torch.tensor([0.0, 1.0, 0.0])
    for noise in (0.0, 0.4999, 0.5001, 0.9999999):
        for given in (draft, None):
            case = VerifierCase(
                torch.tensor([[0]]),
                torch.tensor([1]),
                given,
                target,
                torch.tensor([[0.0, noise]]),
            )
            verdict = case.verify(verifier)
            require(verdict.accepted.tolist() == [0], "accepts a token of target probability zero")
            require(verdict.next_token.item() in (1, 2), "emits a token of target probability zero")


@check("verifier")
def check_impossible_tokens_never_emitted(verifier: Any) -> None:
    """No emitted token has target probability zero, and no more stand than were drafted."""
    for seed in range(60):
        case = verifier_case(seed, rows=20, greedy=not verifier.samples)
        if seed % 3 == 0:
            case.noise.zero_()
        verdict = case.verify(verifier)
        require(
            bool((verdict.accepted <= case.lengths).all() and (verdict.accepted >= 0).all()),
            "accepts padding: more tokens stand than were drafted",
        )
        for row, accepted in enumerate(verdict.accepted.tolist()):
            emitted = [*case.tokens[row, :accepted].tolist(), int(verdict.next_token[row])]
            for place, token in enumerate(emitted):
                require(0 <= token < case.target.shape[-1], f"emits {token}, which is no token")
                require(
                    case.target[row, place, token] > 0,
                    f"emits a token of target probability zero at place {place}",
                )


@check("verifier")
def check_rows_are_independent(verifier: Any) -> None:
    """A row's verdict is the same alone and in a batch; padding means nothing."""
    for seed in _SEEDS:
        case = verifier_case(seed, greedy=not verifier.samples)
        together = case.verify(verifier)
        drafted = torch.arange(case.tokens.shape[1]) < case.lengths[:, None]
        other = torch.where(drafted, case.tokens, (case.tokens + 1) % case.target.shape[-1])
        padded = VerifierCase(other, case.lengths, case.draft, case.target, case.noise)
        again = padded.verify(verifier)
        require(
            torch.equal(together.accepted, again.accepted)
            and torch.equal(together.next_token, again.next_token),
            "padding after a row's drafted tokens changes its verdict",
        )
        for row in range(len(case.tokens)):
            alone = case.row(row).verify(verifier)
            require(
                alone.accepted[0] == together.accepted[row]
                and alone.next_token[0] == together.next_token[row],
                f"row {row} is decided otherwise when it is alone",
            )


@check("verifier")
def check_noise_is_the_only_randomness(verifier: Any) -> None:
    """The same noise gives the same verdict; other noise, sometimes another."""
    if not verifier.samples:
        return
    case = verifier_case(5, rows=50)
    first, again = case.verify(verifier), case.verify(verifier)
    require(
        torch.equal(first.accepted, again.accepted)
        and torch.equal(first.next_token, again.next_token),
        "the same noise gave two verdicts; all randomness must come from `noise`",
    )
    if not verifier.lossless:
        return
    flipped = VerifierCase(case.tokens, case.lengths, case.draft, case.target, 1 - case.noise)
    other = flipped.verify(verifier)
    require(
        not torch.equal(first.next_token, other.next_token), "other noise changes no next token"
    )


@check("verifier")
def check_nothing_drafted_is_plain_decoding(verifier: Any) -> None:
    """With K = 0 the next token is sampled from the target."""
    generator = torch.Generator().manual_seed(4)
    probs = random_probs(generator, 1, 5)
    if not (verifier.samples and verifier.lossless):
        probs = torch.nn.functional.one_hot(probs.argmax(-1), 5).float()
    count = 20_000
    verdict = verifier.verify(
        torch.zeros(count, 0, dtype=torch.int64),
        torch.zeros(count, dtype=torch.int64),
        None,
        probs.expand(count, 1, 5),
        torch.rand(count, 1, generator=generator),
    )
    require(not verdict.accepted.any(), "accepts tokens where nothing was drafted")
    p = p_value(verdict.next_token, probs[0])
    require(p > 1e-7, f"the token is not sampled from the target (p = {p:.1e})")


@check("verifier")
def check_bonus_token_after_full_acceptance(verifier: Any) -> None:
    """When all drafted tokens stand, the token after comes from the target's last position."""
    one_hot = torch.nn.functional.one_hot(torch.tensor([[2, 0, 3], [1, 1, 4]]), 5).float()
    tokens = torch.tensor([[2, 0], [1, 1]])
    case = VerifierCase(tokens, torch.tensor([2, 2]), None, one_hot, torch.full((2, 3), 0.3))
    verdict = case.verify(verifier)
    require(verdict.accepted.tolist() == [2, 2], "refuses tokens that the target is certain of")
    require(verdict.next_token.tolist() == [3, 4], "the bonus token is not the target's next one")


@check("verifier")
def check_rounding_leaves_no_gap(verifier: Any) -> None:
    """Draft and target equal up to rounding: no NaN, no crash, a possible token follows."""
    probs = torch.tensor([[[0.5, 0.5, 0.0]]])
    if not verifier.samples:
        probs = torch.tensor([[[1.0, 0.0, 0.0]]])
    nudged = probs.clone()
    nudged[..., 0] += 1e-7
    for noise in (0.0, 0.3, 0.99999994):
        case = VerifierCase(
            torch.tensor([[0]]),
            torch.tensor([1]),
            nudged,
            torch.cat([probs, probs], 1),
            torch.tensor([[0.99999994, noise]]),
        )
        token = int(case.verify(verifier).next_token)
        require(token in (0, 1), f"token {token} follows where only tokens 0 and 1 are possible")


@check("verifier")
def check_verdict_shapes(verifier: Any) -> None:
    """`accepted` and `next_token` are int64 [B]."""
    case = verifier_case(0, greedy=not verifier.samples)
    verdict = case.verify(verifier)
    for name in ("accepted", "next_token"):
        value = getattr(verdict, name)
        require(
            value.dtype == torch.int64 and tuple(value.shape) == (len(case.tokens),),
            f"{name} is {value.dtype} {tuple(value.shape)}; it must be int64 [{len(case.tokens)}]",
        )


@check("verifier")
def check_inputs_unchanged(verifier: Any) -> None:
    """The engine's tensors are not written to."""
    case = verifier_case(6, greedy=not verifier.samples)
    parts = [case.tokens, case.lengths, case.draft, case.target, case.noise]
    before = [None if part is None else part.clone() for part in parts]
    verifier.verify(*parts)
    for one, other in zip(parts, before, strict=True):
        same = one is None or other is None or torch.equal(one, other)
        require(same, "writes into the tensors it is given")


@check("verifier")
def check_greedy_call_agrees(verifier: Any) -> None:
    """`verify_greedy` says what `verify` says of one-hot distributions."""
    for seed in _SEEDS:
        case = verifier_case(seed, rows=40, greedy=True)
        best, size = case.target.argmax(-1), case.target.shape[-1]
        found = verifier.verify_greedy(case.tokens, case.lengths, best, size)
        noise = torch.zeros_like(case.noise)
        expected = verifier.verify(case.tokens, case.lengths, None, case.target, noise)
        same = torch.equal(found.accepted, expected.accepted)
        require(
            same and torch.equal(found.next_token, expected.next_token),
            "verify_greedy and verify disagree about one-hot distributions",
        )
