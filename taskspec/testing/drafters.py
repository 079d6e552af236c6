"""Checks of drafters: proposals are what they claim, and rows are served one by one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from taskspec.interfaces import Proposal, Sampling
from taskspec.testing.check import check, require
from taskspec.testing.exercises import prompt_states, start_row, started_rows
from taskspec.testing.toy_proposals import (
    built_anew,
    commit_emitted,
    first_distribution,
    full_probs,
    require_equal,
    same,
    toy_noise,
)
from taskspec.testing.toy_target import VOCABULARY, toy_corpus, toy_prompts, toy_target
from taskspec.testing.toy_verification import p_value

_SAMPLED = Sampling(1.0)
_NARROW = Sampling(0.7, top_k=4)


@check("drafter")
def check_proposal_form(drafter: Any) -> None:
    """Proposals have the contract's shapes and dtypes, and hold target ids only."""
    built = built_anew(drafter)
    for sampling in (Sampling(), _SAMPLED):
        rows, k = started_rows(built, sampling), [3, 0, 2]
        proposal = built.propose(rows, k, toy_noise(3, 3))
        tokens, lengths = proposal.tokens, proposal.lengths
        require(tokens.dtype == torch.int64 and tokens.shape[0] == 3, "tokens must be int64 [B, K]")
        require(lengths.dtype == torch.int64 and lengths.shape == (3,), "lengths: int64 [B]")
        require(
            all(0 <= n <= want for n, want in zip(lengths.tolist(), k, strict=True)),
            f"proposes {lengths.tolist()} tokens where at most {k} were asked for",
        )
        require(tokens.shape[1] >= int(lengths.max()), "tokens has fewer columns than lengths say")
        drafted = torch.arange(tokens.shape[1]) < lengths[:, None]
        real = tokens[drafted]
        require(bool(((real >= 0) & (real < VOCABULARY)).all()), "proposes ids beyond the target's")
        if proposal.probs is not None:
            wide = VOCABULARY if proposal.vocabulary is None else len(proposal.vocabulary)
            require(
                proposal.probs.shape == (*tokens.shape, wide),
                f"probs is {tuple(proposal.probs.shape)}; it must be {(*tokens.shape, wide)}",
            )
            sums = proposal.probs.sum(-1)[drafted]
            require(torch.allclose(sums, torch.ones_like(sums), atol=1e-4), "probs must sum to one")
        for row in rows:
            built.stop(row)


@check("drafter")
def check_tokens_follow_their_own_distribution(drafter: Any) -> None:
    """Each drafted token is a sample of the distribution that is returned with it.

    The tokens of rows with one prompt are counted, each place among the rows whose earlier tokens
    are the commonest (chi-square, level 1e-7). A draft that ends because of what a token turned
    out to be shows, too: those that it kept are no sample.
    """
    built = built_anew(drafter)
    for sampling, count in ((_SAMPLED, 350), (_NARROW, 600)):
        _require_samples(built, sampling, count)


def _require_samples(built: Any, sampling: Sampling, count: int) -> None:
    prompt, rows = toy_prompts(1)[0], list(range(count))
    for row in rows:
        start_row(built, row, prompt, sampling)
    proposal = built.propose(rows, [4] * count, toy_noise(count, 4, 1))
    alike = torch.ones(count, dtype=torch.bool)
    for place, which in enumerate(("first", "second", "third", "fourth")):
        alike &= proposal.lengths > place
        if int(alike.sum()) < 40:
            break
        drawn = proposal.tokens[alike, place]
        _require_sample(drawn, full_probs(proposal, int(alike.nonzero()[0]), place), which)
        alike &= proposal.tokens[:, place] == drawn.mode().values
    for row in rows:
        built.stop(row)


def _require_sample(drawn: Tensor, probs: Tensor, which: str) -> None:
    p = p_value(drawn, probs)
    require(
        p > 1e-7,
        f"the {which} drafted token is not a sample of the probs returned with it (p = {p:.1e}); "
        "return the processed distribution that was sampled from, or None if nothing was sampled, "
        "and decide before sampling whether a token is proposed",
    )


@check("drafter")
def check_processors_are_applied(drafter: Any) -> None:
    """The returned distribution has the request's temperature, top-k and top-p in it."""
    built, prompt = built_anew(drafter), toy_prompts(1)[0]
    cold = first_distribution(built, prompt, Sampling(0.5))
    warm = first_distribution(built, prompt, Sampling(1.5))
    narrow = first_distribution(built, prompt, Sampling(1.0, top_k=3))
    nucleus = first_distribution(built, prompt, Sampling(1.0, top_p=0.4))
    if cold is None or warm is None or narrow is None or nucleus is None:
        return
    require(int((narrow > 0).sum()) <= 3, "top_k is not applied to the draft's distribution")
    plain = first_distribution(built, prompt, _SAMPLED)
    assert plain is not None
    ordered = plain.sort(descending=True).values
    most = int((ordered.cumsum(0) < 0.4).sum()) + 1
    require(int((nucleus > 0).sum()) <= most, "top_p is not applied to the draft's distribution")
    if float(plain.max()) < 0.999:
        require(cold.max() > warm.max(), "the temperature is not applied to the draft")


@check("drafter")
def check_greedy_rows_draft_one_hot(drafter: Any) -> None:
    """At temperature 0 the draft is deterministic: probs are None or one-hot at the token."""
    built = built_anew(drafter)
    rows = started_rows(built, Sampling())
    one = built.propose(rows, [3] * 3, toy_noise(3, 3, 1))
    _require_one_hot(one)
    for row in rows:
        built.stop(row)
    rows = started_rows(built, Sampling())
    two = built.propose(rows, [3] * 3, toy_noise(3, 3, 2))
    for row in rows:
        built.stop(row)
    require(torch.equal(one.lengths, two.lengths), "greedy drafts depend on the noise")
    for row in rows:
        n = int(one.lengths[row])
        require(
            torch.equal(one.tokens[row, :n], two.tokens[row, :n]),
            "greedy drafts depend on the noise",
        )


def _require_one_hot(proposal: Proposal) -> None:
    for row, count in enumerate(proposal.lengths.tolist()):
        for place in range(count):
            probs = full_probs(proposal, row, place)
            require(
                abs(float(probs[proposal.tokens[row, place]]) - 1) < 1e-5,
                "a greedy row's probs are not one-hot at the drafted token",
            )


@check("drafter")
def check_rows_are_independent(drafter: Any) -> None:
    """A row drafts alone as in a batch, in any order, whatever k and sampling are beside it."""
    for samplings in ([Sampling()] * 4, [_SAMPLED] * 4, [Sampling(), _SAMPLED] * 2):
        built, prompts = built_anew(drafter), toy_prompts(4)
        for row, prompt in enumerate(prompts):
            start_row(built, row, prompt, samplings[row])
        noise = toy_noise(4, 4)
        order = [2, 0, 3, 1]
        together = built.propose(order, [4, 1, 0, 3], noise[order])
        alone = built_anew(drafter)
        for place, row in enumerate(order):
            start_row(alone, row, prompts[row], samplings[row])
            k = [4, 1, 0, 3][place]
            single = alone.propose([row], [k], noise[row : row + 1, : max(k, 1)])
            mine = Proposal(
                together.tokens[place : place + 1],
                together.lengths[place : place + 1],
                None if together.probs is None else together.probs[place : place + 1],
                together.vocabulary,
            )
            require_equal(mine, single, f"row {row} drafts otherwise in a batch than alone")
            alone.stop(row)
            built.stop(row)


@check("drafter")
def check_row_numbers_are_reused(drafter: Any) -> None:
    """After `stop` a row's number starts afresh; nothing of the earlier request is left."""
    built, (earlier, other) = built_anew(drafter), toy_prompts(2, seed=5)
    # It ends as the earlier request went on from, so that whoever remembers would copy.
    later = [*other[:4], *earlier[2:5]]
    start_row(built, 0, earlier, Sampling())
    built.propose([0], [3], toy_noise(1, 3))
    built.stop(0)
    start_row(built, 0, later, Sampling())
    again = built.propose([0], [3], toy_noise(1, 3))
    built.stop(0)
    fresh = built_anew(drafter)
    start_row(fresh, 0, later, Sampling())
    first = fresh.propose([0], [3], toy_noise(1, 3))
    require_equal(again, first, "a reused row number remembers its earlier request")


@check("drafter")
def check_short_and_ending_prompts(drafter: Any) -> None:
    """A prompt of one token, and one that holds the end token, are served like others."""
    built = built_anew(drafter)
    for prompt in ([5], [5, 1, 9, 1], [1, 1]):
        start_row(built, 0, prompt, Sampling())
        proposal = built.propose([0], [2], toy_noise(1, 2))
        require(int(proposal.lengths[0]) <= 2, "proposes more than asked for")
        commit_emitted(built, [0], [prompt], [[8]])
        built.stop(0)


@check("drafter")
def check_copies_depend_on_the_text_alone(drafter: Any) -> None:
    """A drafter with `copies` proposes the same whatever noise and sampling, without probs."""
    if not drafter.copies:
        return
    built = built_anew(drafter)
    found = []
    for seed, sampling in enumerate((Sampling(), _SAMPLED, Sampling(0.3, top_k=2))):
        rows = started_rows(built, sampling)
        # It is asked again before a commit where it has watched a row and is then to serve it.
        found += [built.propose(rows, [3] * 3, toy_noise(3, 3, seed)) for _ in range(2)]
        for row in rows:
            built.stop(row)
    for proposal in found:
        require(proposal.probs is None, "copies is set, but a proposal has probs; return None")
        require_equal(
            proposal,
            found[0],
            "copies is set, but what is proposed depends on noise, sampling or what was proposed "
            "before; leave copies unset",
        )


@check("drafter")
def check_remembered_answers_count_alike_for_all_rows(drafter: Any) -> None:
    """What is remembered changes drafts, of rows that were there before alike; `forget` undoes it.

    A row that is served while answers come drafts as one that starts afterwards on the same text.
    """
    if not drafter.remembers:
        return
    prompt, answers = toy_prompts(1)[0], toy_corpus().answers
    fresh, built = built_anew(drafter), built_anew(drafter)
    for each in (fresh, built):
        start_row(each, 0, prompt[:-2], Sampling())
        commit_emitted(each, [0], [prompt[:-2]], [prompt[-2:]])
    noise, changed = toy_noise(1, 4), False
    first = fresh.propose([0], [4], noise)
    repeated = [*prompt, *reversed(prompt)]
    # So many tokens that all fit, so few that the oldest have to go, and less than one answer.
    for most in (10_000, 40, 1):
        for turn, answer in enumerate((*answers, *[repeated] * 3)):
            built.remember(answer, most)
            start_row(built, 1, prompt, Sampling())
            one, two = (built.propose([row], [4], noise) for row in (0, 1))
            built.stop(1)
            require_equal(
                one,
                two,
                f"after {turn + 1} remembered answers a row that was started before them drafts "
                "otherwise than one started after; bring rows that are served up to date",
            )
            changed |= not same(one, first)
        built.forget()
        require_equal(
            built.propose([0], [4], noise), first, "after `forget` answers are still known"
        )
    require(changed, "remembers is set, but nothing that is remembered changes a draft")


@check("drafter")
def check_prompt_states_are_used_as_given(drafter: Any) -> None:
    """`hidden_layers` names layers that the target has, and `start` takes their states."""
    if not drafter.hidden_layers:
        return
    layers = toy_target().model.config.num_hidden_layers
    require(
        all(-layers - 1 <= layer <= layers for layer in drafter.hidden_layers),
        f"hidden_layers {drafter.hidden_layers} goes beyond the target's {layers} layers",
    )
    prompt = toy_prompts(1)[0]
    wanted = prompt_states(drafter, prompt)
    assert wanted is not None
    built = built_anew(drafter)
    built.start(0, prompt, Sampling(), wanted, None)
    built.propose([0], [1], toy_noise(1, 1))
    built.stop(0)
