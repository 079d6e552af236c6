"""Draft with one layer that reads the target's own states (EAGLE)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from taskspec.interfaces import (
    DraftCorpus,
    Sampling,
    Target,
    TeacherSignal,
    TrainingBatch,
    option,
)
from taskspec.models.cutting import choose_vocabulary
from taskspec_drafters.adapted import DraftsByAdapter
from taskspec_drafters.confidence import check_stop_below
from taskspec_drafters.feature_model import (
    FeatureNetwork,
    build_network,
    choose_layer,
    load_network,
    save_network,
)
from taskspec_drafters.feature_rows import FeatureRows
from taskspec_drafters.feature_training import (
    TargetReader,
    batch_generator,
    choose_depths,
    noise_like,
    roll_out,
    write_texts,
)
from taskspec_drafters.modes import evaluating


@dataclass(frozen=True)
class FeatureOptions:
    """Options of `feature`."""

    vocabulary: int = option(
        8192, "Output tokens kept: the most frequent of the corpus; 0 keeps the whole vocabulary."
    )
    task_vocabulary: int = option(
        0, "Of these, output tokens kept for each task: the most frequent of its texts; 0: all."
    )
    train_head: bool = option(
        False, "Train the output head too; otherwise it stays the target's and is not saved."
    )
    rollout_steps: int = option(
        3, "Longest run of its own predicted states that the draft is trained on."
    )
    feature_noise: float = option(
        0.0, "Half-width of the uniform noise on the target's states while training."
    )
    int8: bool = option(
        False, "Draft from weights of a byte each, where the compiled kernels run: less to read."
    )
    stop_below: float = option(
        0.0, "End a draft before it is less likely than this to stand as a whole, as it sees it."
    )

    def __post_init__(self) -> None:
        for name in ("vocabulary", "task_vocabulary"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be 0 (all) or positive")
        if self.rollout_steps < 1:
            raise ValueError("rollout_steps must be at least 1")
        if not self.feature_noise >= 0:
            raise ValueError("feature_noise must be 0 (none) or positive")
        check_stop_below(self.stop_below)


class Feature(DraftsByAdapter):
    """One decoder layer that goes on from the target's final hidden states.

    EAGLE (arXiv 2401.15077) as a chain: states are predicted, the target's own output head reads
    them, and each prediction is the next input. It trains on its own roll-outs, without a loss on
    the states, as EAGLE-3 (arXiv 2503.01840) does. States at decided tokens are always the
    target's. The input embedding is the target's and never trains; a head trimmed to frequent
    tokens follows FR-Spec (arXiv 2502.14856).
    """

    name = "feature"
    Options = FeatureOptions
    hidden_layers = (-1,)

    def __init__(
        self,
        options: FeatureOptions | None = None,
        network: nn.Module | None = None,
        vocabulary: Tensor | None = None,
        reader: TargetReader | None = None,
    ) -> None:
        super().__init__(options, network, vocabulary)
        self._reader = reader

    @classmethod
    def check(cls, target: Target, options: FeatureOptions) -> None:
        """The target has a layer to begin with that attends to the whole text.

        Raises:
            ModelError: When it has none, or keeps its layers in an unknown place.
        """
        choose_layer(target)

    @classmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: FeatureOptions) -> Self:
        """Begin with the target's first layer.

        Raises:
            ModelError: As `check`.
        """
        vocabulary = None
        if 0 < options.vocabulary < target.vocabulary_size:
            vocabulary = choose_vocabulary(
                [*corpus.answers, *corpus.prompts],
                options.vocabulary,
                target.vocabulary_size,
                always=target.eos_token_ids,
            )
        network = build_network(target, vocabulary, options.train_head)
        return cls._made(options, network, vocabulary, target)

    @classmethod
    def load(cls, folder: Path, target: Target, options: FeatureOptions) -> Self:
        """Restore the network in the target's dtype, on its device.

        Raises:
            ModelError: When the folder holds no feature draft of this target's shape.
        """
        network, vocabulary = load_network(folder, target, options.train_head)
        return cls._made(options, network, vocabulary, target)

    @classmethod
    def _made(
        cls,
        options: FeatureOptions,
        network: FeatureNetwork,
        vocabulary: Tensor | None,
        target: Target,
    ) -> Self:
        made = cls(options, network, vocabulary, TargetReader(target.model))
        made._end_tokens = target.eos_token_ids
        return made

    def save(self, folder: Path) -> None:
        """Write what is not the target's own, as safetensors and JSON."""
        save_network(self._unwrapped(), self._vocabulary, folder)

    @property
    def needs_recovery(self) -> bool:
        """True: no layer of the target has predicted states before."""
        return True

    def training_states(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """States [M, H] at the trained positions, each after a roll-out of random length.

        The state after token i comes from token i and the target's state before it or, from the
        second step on, a predicted one. In evaluation mode every state is the target's, as for
        the first drafted token. The target reads the whole batch for its states; those that
        `teacher` may hold are of answers only.
        """
        network = self._unwrapped()
        steps = self.options.rollout_steps if network.training else 1
        generator = batch_generator(batch)
        noise = self.options.feature_noise if network.training else 0.0
        made = torch.stack(self._rolled_out(batch, steps, noise, generator))  # [S, M, H]
        depths = choose_depths(batch, steps, generator)
        return made[depths - 1, torch.arange(len(depths))]

    def drafted_states(
        self, batch: TrainingBatch, teacher: TeacherSignal, steps: int
    ) -> list[Tensor]:
        """States [M, H] after each number of predicted states, from none on."""
        return self._rolled_out(batch, steps, 0.0, batch_generator(batch))

    def _rolled_out(
        self, batch: TrainingBatch, steps: int, noise: float, generator: torch.Generator
    ) -> list[Tensor]:
        """Predicted states [M, H] at the trained positions, for each step of a roll-out."""
        states, embeddings = self._target().read(batch)
        if noise:
            states = states + noise_like(states, noise, generator)
        predicted = roll_out(self._unwrapped(), states, embeddings, batch, steps)
        return [each[batch.trained] for each in predicted]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampling: Sampling,
        generator: torch.Generator,
        end_tokens: Collection[int] = (),
    ) -> list[list[int]]:
        """Continue prompts as if every drafted token were accepted, `rollout_steps` at a time."""
        network = self._unwrapped()
        writer = type(self)(self.options, network, self._vocabulary)
        # Autocast would keep weights rounded here for the training passes around this.
        with evaluating(network), torch.autocast(network.device.type, enabled=False):
            return write_texts(
                writer,
                self._target().running(network.device),
                prompts,
                counts,
                sampling,
                generator,
                end_tokens,
                ahead=self.options.rollout_steps,
            )

    def _target(self) -> TargetReader:
        assert self._reader is not None, "build or load the drafter first"
        return self._reader

    def _work(self, module: Any, vocabulary: Tensor | None) -> FeatureRows:
        return FeatureRows(module, vocabulary, self.options.int8, self.options.stop_below)
