"""How a draft does on answers that it does not learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from taskspec.interfaces import TeacherSignal, TrainableDrafter, TrainingBatch
from taskspec.training.batches import split_texts
from taskspec.training.chunked_loss import position_parts
from taskspec.training.losses import acceptance
from taskspec.training.simulation import SIMULATED_LENGTH, simulate_batch


@dataclass(frozen=True)
class HeldOutScore:
    """Sums over answers, which add up over batches and processes.

    Attributes:
        sums: float64 [4]: acceptance alpha summed over positions, positions, tokens emitted and
            passes of the simulation.
    """

    sums: Tensor = field(default_factory=lambda: torch.zeros(4, dtype=torch.float64))

    def __add__(self, other: HeldOutScore) -> HeldOutScore:
        return HeldOutScore(self.sums + other.sums)

    def metrics(self) -> dict[str, Tensor]:
        """Mean alpha and, with answers of two tokens or more, simulated block efficiency."""
        alpha, positions, emitted, passes = self.sums.float()
        found = {"val_alpha": alpha / positions.clamp(min=1)}
        return found | {"val_block_efficiency": emitted / passes.clamp(min=1)}


@torch.no_grad()
def score_batch(
    drafter: TrainableDrafter,
    batch: TrainingBatch,
    teacher: TeacherSignal,
    width: int,
    most_logits: int,
) -> HeldOutScore:
    """Theoretical acceptance, and block efficiency simulated at draft length 4.

    Args:
        drafter: The draft, in evaluation mode.
        batch: Answers of the target.
        teacher: The target's view of them.
        width: Columns of the draft's logits.
        most_logits: Logits held at a time; 0 for a whole batch's.
    """
    states = drafter.drafted_states(batch, teacher, SIMULATED_LENGTH)
    parts = position_parts(len(teacher.tokens), width, most_logits)
    agrees = agreements(drafter, states, teacher.tokens, parts)
    alpha = 0.0
    for place in parts:
        logits = drafter.training_head(states[0][place])
        log_p = teacher.part(place).log_probs(drafter.vocabulary)
        alpha += float(acceptance(logits, log_p)) * (place.stop - place.start)
    counts = [count for row in split_texts(batch) for _, count in row]
    steps = [s for each in simulate_batch(agrees, counts, SIMULATED_LENGTH) for s in each]
    sums = [alpha, len(teacher.tokens), sum(step.emitted for step in steps), len(steps)]
    return HeldOutScore(torch.tensor(sums, dtype=torch.float64))


@torch.no_grad()
def agreements(
    drafter: TrainableDrafter, states: Sequence[Tensor], tokens: Tensor, parts: Sequence[slice]
) -> list[Tensor]:
    """Whether the draft's likeliest token is the answer's, bool [M] for each place in a draft.

    Args:
        drafter: The draft.
        states: Its states [M, D] for each place.
        tokens: int64 [M], the answer tokens.
        parts: Positions to look at together.
    """
    found: dict[int, Tensor] = {}
    for each in states:
        if id(each) not in found:
            guesses = [drafter.training_head(each[place]).argmax(-1) for place in parts]
            guess = torch.cat(guesses)
            if drafter.vocabulary is not None:
                guess = drafter.vocabulary.to(guess.device)[guess]
            found[id(each)] = guess == tokens
    return [found[id(each)] for each in states]
