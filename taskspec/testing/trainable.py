"""Checks of drafters that aligners can train: what is trained is what is served."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

import torch

from taskspec.interfaces import Sampling, TrainableDrafter, TrainingBatch
from taskspec.testing.check import check, require
from taskspec.testing.exercises import exercise_of
from taskspec.testing.toy_draft import packed_together, toy_alignment, toy_answers, with_padding
from taskspec.testing.toy_proposals import first_distribution, first_proposal, full_probs
from taskspec.testing.toy_target import VOCABULARY, toy_corpus, toy_target

_TOLERANCE = 1e-3


def _built(drafter: Any) -> Any:
    """A built drafter in float32, as the training loop sees it; None when it does not train."""
    if not isinstance(drafter, TrainableDrafter):
        return None
    built = exercise_of(drafter).prepare(drafter)
    built.module.float().eval()
    return built


@check("drafter")
def check_training_logits_form(drafter: Any) -> None:
    """`training_logits` gives [M, Vd] with gradients, in the order of the trained positions."""
    built = _built(drafter)
    if built is None:
        return
    made = toy_alignment()
    built.module.requires_grad_(True)
    logits = built.training_logits(made.batch, made.teacher)
    wide = VOCABULARY if built.vocabulary is None else len(built.vocabulary)
    count = int(made.batch.trained.sum())
    require(logits.shape == (count, wide), f"shape {tuple(logits.shape)}, not {(count, wide)}")
    require(logits.requires_grad, "the logits carry no gradient")
    require(bool(torch.isfinite(logits).all()), "logits hold NaN or infinity")


@check("drafter")
def check_training_head_works_row_by_row(drafter: Any) -> None:
    """The head's logits of some positions are those it has for all, and it is part of `module`."""
    built = _built(drafter)
    if built is None:
        return
    made = toy_alignment()
    with torch.no_grad():
        whole = built.training_logits(made.batch, made.teacher)
        states = built.training_states(made.batch, made.teacher)
        for part in (slice(0, 1), slice(1, None)):
            require(
                torch.allclose(built.training_head(states[part]), whole[part], atol=_TOLERANCE),
                "`training_head` on some rows of `training_states` differs from all of them",
            )
    own = {id(parameter) for parameter in built.module.parameters()}
    foreign = [name for name, p in built.training_head.named_parameters() if id(p) not in own]
    require(not foreign, f"parameters of `training_head` are not in `module`: {foreign[:3]}")


@check("drafter")
def check_drafted_states_begin_with_the_trained_ones(drafter: Any) -> None:
    """`drafted_states` has one entry per place in a draft; the first is what is trained."""
    built = _built(drafter)
    if built is None:
        return
    made = toy_alignment()
    with torch.no_grad():
        trained = built.training_states(made.batch, made.teacher)
        for steps in (1, 3):
            drafted = built.drafted_states(made.batch, made.teacher, steps)
            require(len(drafted) == steps, f"{len(drafted)} entries for {steps} steps")
            shapes = {tuple(each.shape) for each in drafted}
            require(shapes == {tuple(trained.shape)}, f"shapes {shapes}, not those of training")
            require(
                torch.allclose(drafted[0], trained, atol=_TOLERANCE),
                "the first entry differs from `training_states` in evaluation mode",
            )


@check("drafter")
def check_training_ignores_padding_and_neighbours(drafter: Any) -> None:
    """Padding and other sequences packed into the row change no logits."""
    built = _built(drafter)
    if built is None:
        return
    made = toy_alignment()
    with torch.no_grad():
        plain = built.training_logits(made.batch, made.teacher)
        for name, other in (("padding", with_padding(made)), ("packing", packed_together(made))):
            found = built.training_logits(other.batch, other.teacher)
            require(
                torch.allclose(plain, found, atol=_TOLERANCE),
                f"{name} changes the logits by up to {float((plain - found).abs().max()):.3g}",
            )


@check("drafter")
def check_training_is_causal(drafter: Any) -> None:
    """A position's logits do not depend on tokens after it."""
    built = _built(drafter)
    if built is None:
        return
    made = toy_alignment(1)
    batch = made.batch
    last = int(batch.trained[0].nonzero()[-1])
    changed = batch.tokens.clone()
    changed[0, last] = (changed[0, last] + 5) % VOCABULARY
    other = TrainingBatch(changed, batch.positions, batch.segments, batch.trained)
    with torch.no_grad():
        first = built.training_logits(batch, made.teacher)
        second = built.training_logits(other, made.teacher)
    require(
        torch.allclose(first[:-1], second[:-1], atol=_TOLERANCE),
        "changing the last token changes earlier logits: the draft sees the future",
    )


@check("drafter")
def check_trained_equals_served(drafter: Any) -> None:
    """The distribution trained at a position is the one drafted from there (golden logits)."""
    built = _built(drafter)
    if built is None:
        return
    answer = toy_answers()[0]
    made = toy_alignment(1)
    with torch.no_grad():
        trained = built.training_logits(made.batch, made.teacher).float().softmax(-1)
    for place in (1, 4):
        text = [*answer.prompt_ids, *answer.answer_ids[:place]]
        proposal = first_proposal(built, text, Sampling(1.0))
        if not proposal.lengths[0]:
            continue  # it may end its draft here
        require(
            proposal.probs is not None, "a trainable draft must propose with probs when it samples"
        )
        served = full_probs(proposal, 0, 0)
        full = torch.zeros(VOCABULARY)
        columns = torch.arange(VOCABULARY) if built.vocabulary is None else built.vocabulary
        full[columns] = trained[place]
        gap = float((full - served).abs().max())
        require(
            gap < _TOLERANCE,
            f"at answer token {place} training and drafting disagree by {gap:.3g} in probability",
        )


@check("drafter")
def check_module_can_be_replaced(drafter: Any) -> None:
    """A module put in the place of the first is the one that drafts afterwards."""
    built = _built(drafter)
    if built is None:
        return
    text = [*toy_answers()[0].prompt_ids]
    before = first_distribution(built, text, Sampling(1.0))
    if before is None:
        return
    module = copy.deepcopy(built.module)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad or parameter.ndim > 1:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    built.module = module
    after = first_distribution(built, text, Sampling(1.0))
    same = after is not None and torch.allclose(before, after)
    require(not same, "trained weights are not used for drafting")


@check("drafter")
def check_specialised_draft_is_a_part_of_the_whole(drafter: Any) -> None:
    """`specialise` leaves ids that were there before, end tokens among them, and can be saved."""
    built = _built(drafter)
    if built is None:
        return
    target, made = toy_target(), toy_alignment()
    before = set(range(VOCABULARY)) if built.vocabulary is None else set(built.vocabulary.tolist())
    built.specialise(toy_corpus())
    after = before if built.vocabulary is None else set(built.vocabulary.tolist())
    require(after <= before, f"ids {sorted(after - before)[:3]} were not in the whole draft")
    require(target.eos_token_ids & before <= after, "an end token was left out")
    with torch.no_grad():
        logits = built.training_logits(made.batch, made.teacher)
    require(logits.shape[1] == len(after), "logits and vocabulary differ in width")
    text = [*toy_answers()[0].prompt_ids]
    expected = first_distribution(built, text, Sampling(1.0))
    with tempfile.TemporaryDirectory() as place:
        built.save(Path(place))
        loaded = type(drafter).load(Path(place), target, drafter.options)
        found = first_distribution(loaded, text, Sampling(1.0))
    if expected is not None:
        same = found is not None and torch.allclose(expected, found, atol=_TOLERANCE)
        require(same, "saved and loaded, it differs")


@check("drafter")
def check_vocabulary_is_ascending_target_ids(drafter: Any) -> None:
    """A trimmed vocabulary holds distinct target ids and the end tokens."""
    built = _built(drafter)
    if built is None or built.vocabulary is None:
        return
    ids = built.vocabulary
    require(ids.dtype == torch.int64 and ids.ndim == 1, "vocabulary must be int64 [Vd]")
    require(len(set(ids.tolist())) == len(ids), "vocabulary holds an id twice")
    require(bool(((ids >= 0) & (ids < VOCABULARY)).all()), "vocabulary holds ids beyond the target")
