"""The gate between training and use: a draft does in the engine what it did in training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.engine import Engine
from taskspec.decoding.records import Generation, Request, StepRecord
from taskspec.errors import ParityError
from taskspec.interfaces import Drafter, Sampling, Target, TrainableDrafter, Verifier
from taskspec.serving.pool import Pool
from taskspec.training.batches import move_batch, pad_texts
from taskspec.training.held_out import agreements
from taskspec.training.losses import acceptance
from taskspec.training.online_teacher import OnlineTeacher
from taskspec.training.simulation import SIMULATED_LENGTH, simulate_answer
from taskspec.training.teacher import StoredTeacherSignal

GOLDEN_GAP = 1e-3
"""Largest difference in any probability between the trained and the delivered draft."""
ACCEPTANCE_GAP = 0.02
"""Largest mean difference in the chance that a drafted token is accepted."""
_SAMPLED = Sampling(temperature=1.0)


@dataclass(frozen=True)
class Parity:
    """What the gate saw.

    Attributes:
        steps: Verification passes whose accepted counts were compared; all agreed.
        positions: Positions whose draft distributions were compared.
        golden_gap: Largest difference in a probability.
        acceptance_gap: Mean difference in the chance of acceptance, paired by position.
    """

    steps: int
    positions: int
    golden_gap: float
    acceptance_gap: float


@torch.no_grad()
def check_parity(
    trained: TrainableDrafter,
    pool: Pool,
    name: str,
    target: Target,
    requests: Sequence[Request],
    verifier: Verifier,
) -> Parity:
    """Compare a trained draft with the delivered one, both in float32.

    Greedily, the engine decodes prompts with the delivered draft; the trained one, walked over
    the same answers in one pass, must accept as many tokens at every step, of as many as the
    delivered one drafted: a draft may end early. Sampled, the distributions of both are compared
    at every position of these answers where something is drafted. Of prompts too long for the
    draft the newest tokens are read, since it was trained on whole texts.

    Args:
        trained: What training made, on a target in float32.
        pool: Holds what was delivered, loaded for the same target.
        name: The delivered draft's entry.
        target: The target in float32.
        requests: Greedy requests without a draft.
        verifier: The greedy verifier.

    Raises:
        ParityError: Naming what differs, and where.
    """
    choice = pool.choice(name, SIMULATED_LENGTH)
    assert choice is not None
    trained.module.eval()
    engine = Engine(target, verifier, pool.drafters)
    teacher = OnlineTeacher(target)
    steps = positions = 0
    golden = gap = 0.0
    for request in (_fitting(each, trained.longest_text) for each in requests):
        generation = engine.generate([replace(request, draft=choice)])[0]
        batch = move_batch(pad_texts([request.prompt], [generation.tokens]), target.device)
        signal = teacher.signal(batch, torch.tensor(generation.tokens, device=target.device))
        steps += _compare_steps(name, trained, request, generation, signal)
        drafter = pool.drafters[choice.draft]
        places, served = _walk(drafter, choice.adapter, target, request, generation)
        logits = trained.training_logits(batch, signal).float()[places]
        simulated = _spread(logits.softmax(-1), trained.vocabulary, target.vocabulary_size)
        if places:
            golden = max(golden, float((served - simulated).abs().max()))
            log_p = signal.log_probs(None)[places]
            pair = [acceptance(q.clamp(min=1e-30).log(), log_p) for q in (served, simulated)]
            gap += float(pair[0] - pair[1]) * len(places)
            positions += len(places)
    gap = abs(gap) / max(1, positions)
    if golden > GOLDEN_GAP or gap > ACCEPTANCE_GAP:
        raise ParityError(
            f"draft '{name}' differs from what was trained: its probabilities by up to "
            f"{golden:.2g} (at most {GOLDEN_GAP:g}), its acceptance by {gap:.3f} (at most "
            f"{ACCEPTANCE_GAP:g}); its drafter's training_states and propose, or the aligner's "
            "export, do not belong together: run taskspec check-plugin on both"
        )
    return Parity(steps, positions, golden, gap)


def _fitting(request: Request, longest: int | None) -> Request:
    """The request with as much of its prompt's end as leaves room for the answer and a draft."""
    if longest is None:
        return request
    room = max(1, longest - request.max_new_tokens - SIMULATED_LENGTH)
    return replace(request, prompt=request.prompt[-room:])


@torch.no_grad()
def _compare_steps(
    name: str,
    trained: TrainableDrafter,
    request: Request,
    generation: Generation,
    signal: StoredTeacherSignal,
) -> int:
    """Number of the answer's steps, all of which the simulation takes just so.

    Raises:
        ParityError: At the first step that it takes otherwise.
    """
    batch = move_batch(pad_texts([request.prompt], [generation.tokens]), signal.tokens.device)
    states = trained.drafted_states(batch, signal, SIMULATED_LENGTH)
    agrees = agreements(trained, states, signal.tokens, [slice(0, len(generation.tokens))])
    drafted = [step.drafted for step in generation.steps]
    simulated = simulate_answer(agrees, SIMULATED_LENGTH, request.max_new_tokens, drafted)
    found = [StepRecord(s.drafted, s.accepted, s.emitted) for s in simulated]
    for number, (expected, step) in enumerate(zip(found, generation.steps, strict=False)):
        if expected != step:
            raise ParityError(
                f"draft '{name}' does not do in the engine what it does in training: at step "
                f"{number} of prompt {request.id} the engine accepted {step.accepted} of "
                f"{step.drafted} tokens, training {expected.accepted} of {expected.drafted}; "
                "run taskspec check-plugin on its drafter and aligner"
            )
    return len(generation.steps)


@torch.inference_mode()
def _walk(
    drafter: Drafter,
    adapter: str | None,
    target: Target,
    request: Request,
    generation: Generation,
) -> tuple[list[int], Tensor]:
    """What is drafted from before each answer token but the first.

    Returns:
        The n answer tokens before which something is drafted, and the distributions [n, V].
    """
    text = [*request.prompt, *generation.tokens]
    hidden = None
    if drafter.hidden_layers:
        running = CachedModel(target.model, target.head)
        fed = torch.tensor([text[:-1]], device=target.device)
        hidden = running.forward([0], fed, None, drafter.hidden_layers)
    known = len(request.prompt) + 1
    drafter.start(
        0, text[:known], _SAMPLED, None if hidden is None else hidden[0, : known - 1], adapter
    )
    places, found = [], []
    for place in range(known, len(text)):
        proposal = drafter.propose([0], [1], torch.full((1, 1), 0.5))
        if proposal.lengths[0]:
            assert proposal.probs is not None, "a trainable draft says what it samples from"
            q = proposal.probs[0, 0].float()
            found.append(_spread(q[None], proposal.vocabulary, target.vocabulary_size)[0])
            places.append(place - len(request.prompt))
        said = torch.tensor([[text[place]]])
        state = None if hidden is None else hidden[:, place - 1 : place]
        drafter.commit([0], said, torch.tensor([1]), state)
    drafter.stop(0)
    return places, torch.stack(found) if found else torch.zeros(0, target.vocabulary_size)


def _spread(q: Tensor, vocabulary: Tensor | None, size: int) -> Tensor:
    """Distributions [M, Vd] over the whole vocabulary [M, V]."""
    if vocabulary is None:
        return torch.nn.functional.pad(q, (0, size - q.shape[-1]))
    wide = q.new_zeros(len(q), size)
    wide[:, vocabulary.to(q.device)] = q
    return wide
