"""Batches of texts that the draft writes itself, scored by the target."""

from __future__ import annotations

import numpy as np
import torch

from taskspec.interfaces import Aligner, Sampling, TeacherSignal, TrainableDrafter, TrainingBatch
from taskspec.training.batches import AlignmentBatch, move_batch, pack_texts, split_texts
from taskspec.training.data import progress_at
from taskspec.training.online_teacher import OnlineTeacher

_OWN_WORDS = Sampling(temperature=1.0)
"""A draft learns from what it says, not from what it says after top-k or at other temperatures."""


class OnPolicy:
    """Decides which batches the draft writes itself, and has it write them.

    Decisions depend on seed and step alone, so that processes that train together need not wait
    for one another; texts on the process too. Nothing else enters but the weights, and a run that
    is continued repeats what it would have done.

    Args:
        drafter: Writes the texts.
        aligner: Says the share of such batches.
        teacher: Scores them.
        seed: Source of decisions and texts.
    """

    def __init__(
        self, drafter: TrainableDrafter, aligner: Aligner, teacher: OnlineTeacher, seed: int
    ) -> None:
        self.drafter, self.aligner, self.teacher, self.seed = drafter, aligner, teacher, seed

    def chooses(self, made: AlignmentBatch) -> bool:
        """Whether this batch's prompts are continued by the draft."""
        share = self.aligner.student_share(made.progress)
        return share > 0 and torch.rand((), generator=self._generator(made.step, 0)).item() < share

    def rewrite(self, made: AlignmentBatch, rank: int) -> tuple[TrainingBatch, TeacherSignal]:
        """The batch with answers by the draft, no longer than the stored ones, at temperature 1.

        Args:
            made: A batch of stored answers.
            rank: Number of the process.
        """
        rows = split_texts(made.batch)
        prompts, counts = zip(*(text for row in rows for text in row), strict=True)
        generator = self._generator(made.step, 1 + rank)
        texts = self.drafter.sample(prompts, counts, _OWN_WORDS, generator, self.teacher.end_tokens)
        written = iter(texts)
        packed = pack_texts([[(prompt, next(written)) for prompt, _ in row] for row in rows])
        batch = move_batch(packed, made.batch.tokens.device)
        return batch, self.teacher.signal(batch)

    def _generator(self, step: int, purpose: int) -> torch.Generator:
        return torch.Generator().manual_seed(step_seed(self.seed, step, purpose))


def step_seed(seed: int, step: int, *purpose: int) -> int:
    """A seed for one step of a training, that a run which is continued there has, too.

    Args:
        seed: The training's.
        step: Batches before this one.
        purpose: What tells draws of one step apart.
    """
    # SeedSequence keeps neighbouring steps from giving related streams.
    state = np.random.SeedSequence([seed, step, *purpose]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def writes_itself(aligner: Aligner, steps: int) -> bool:
    """Whether an aligner ever asks for the draft's own texts in a training of so many batches."""
    return any(aligner.student_share(progress_at(step, steps)) > 0 for step in range(steps))
