"""The drafter contract: proposes, never decides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from taskspec.errors import ModelError
from taskspec.interfaces.plugin import Plugin
from taskspec.interfaces.sampling import Sampling

if TYPE_CHECKING:
    from torch import Generator, Tensor, nn

    from taskspec.interfaces.target import Target
    from taskspec.interfaces.teacher import TeacherSignal, TrainingBatch


@dataclass(frozen=True)
class DraftCorpus:
    """Token ids a drafter may be built from.

    Attributes:
        prompts: Prompt ids of the training split.
        answers: The target's answer ids to them, same order.
    """

    prompts: Sequence[Sequence[int]]
    answers: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Proposal:
    """Drafted continuations of B rows, always in target ids.

    Attributes:
        tokens: int64 [B, K]; entries from lengths[b] on are padding.
        lengths: int64 [B], 0..K.
        probs: float32 [B, K, Vd], the processed distribution each token was sampled from; None
            when the proposal is deterministic (one-hot at each token).
        vocabulary: int64 [Vd], the target id of each column of `probs`; None for the whole
            target vocabulary. Outside it the draft's probability is zero.
    """

    tokens: Tensor
    lengths: Tensor
    probs: Tensor | None = None
    vocabulary: Tensor | None = None


@dataclass(frozen=True)
class Member:
    """A loaded draft of the pool that another one drafts with.

    Attributes:
        drafter: The drafter, which may serve other rows for itself.
        adapter: What to hand to its `start`.
    """

    drafter: Drafter
    adapter: str | None


class Drafter(Plugin, ABC):
    """Proposes the next tokens of rows that come and go.

    A row is one request. Its life: `start`, then a `commit` for what every step of the target
    emitted, with a `propose` before it where something is to be drafted, then `stop`. So commits
    may come one after the other without a proposal between them, and a drafter with `copies`, which
    may follow a text that others draft, is told of several steps in one and may be asked again
    before the next. A row that never drafts never starts, and one that wants no states of the
    target may start in the middle of its answer.
    `build` makes a drafter for a target and corpus; `save` and `load` round-trip it.

    Attributes:
        hidden_layers: Target hidden states it wants in `start` and `commit`, as layer indices
            (-1 is the final normalised state); empty for none.
        learns_from_corpus: Whether what it drafts comes from the corpus, so that every task gets
            one built from its own answers. Drafters that an aligner trains need not say so.
        copies: Whether what it proposes depends on the text alone, never on noise, and costs little
            beside a pass of a model; text that others drafted then tells how it would have done.
        remembers: Whether `remember` and `forget` are there, so that it drafts better the more it
            has served.
    """

    hidden_layers: tuple[int, ...] = ()
    learns_from_corpus: ClassVar[bool] = False
    copies: ClassVar[bool] = False
    remembers: ClassVar[bool] = False

    @classmethod
    def check(cls, target: Target, options: Any) -> None:  # noqa: B027
        """Refuse early what `build` would refuse; asked before any work is done.

        Raises:
            ModelError: When the options do not fit the target.
        """

    @classmethod
    def members(cls, options: Any) -> tuple[str, ...]:
        """Names of the pool's drafts that it drafts with, none of which may have members."""
        return ()

    def join(self, members: Sequence[Member]) -> None:
        """Take in the drafts that `members` named, in that order, made for the same task.

        Called once after `build` or `load`, before the first `start`.
        """
        raise NotImplementedError(f"drafter '{self.name}' has no members")

    @classmethod
    @abstractmethod
    def build(cls, target: Target, corpus: DraftCorpus, options: Any) -> Self:
        """Make a drafter for the target.

        Raises:
            ModelError: When the options do not fit the target.
        """

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, target: Target, options: Any) -> Self:
        """Restore what `save` wrote."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write into an existing, empty folder; never pickle."""

    def add_adapter(self, name: str, folder: Path) -> None:
        """Load an adapter that rows may ask for by name.

        Raises:
            ModelError: When drafters of this kind have no adapters.
        """
        raise ModelError(
            f"drafter '{self.name}' has no adapters; use an aligner that trains the whole draft, "
            "such as kd"
        )

    @abstractmethod
    def start(
        self,
        row: int,
        prompt: Sequence[int],
        sampling: Sampling,
        hidden: Tensor | None = None,
        adapter: str | None = None,
    ) -> None:
        """Begin a row.

        Args:
            row: The row's number, unused at the moment; chosen by the engine.
            prompt: All tokens known so far, the first generated one included.
            sampling: The request's logits processors; a drafter that samples must sample from
                the distribution these give and return that one in `Proposal.probs`.
            hidden: float [len(prompt) - 1, H * layers] when `hidden_layers` asks for it.
            adapter: Name given to `add_adapter`, or None for the drafter itself.
        """

    @abstractmethod
    def propose(self, rows: Sequence[int], k: Sequence[int], noise: Tensor) -> Proposal:
        """Draft up to k[b] tokens for each of B rows.

        Args:
            rows: Row numbers.
            k: Draft length of each row, at least 0; fewer tokens may be proposed, decided
                before the token is sampled.
            noise: float32 [B, max k], uniform in [0, 1), for sampling; a row may use only its
                own noise.
        """

    @abstractmethod
    def commit(
        self, rows: Sequence[int], tokens: Tensor, counts: Tensor, hidden: Tensor | None = None
    ) -> None:
        """Take in what the target decided; drop drafted state that was refused.

        Args:
            rows: Numbers of started rows, in any order, whether or not the last `propose` was
                for them.
            tokens: int64 [B, T], the emitted tokens. Mostly a step's: accepted ones and one more.
                Without a proposal before it, or where several steps are told at once, T has no
                bound; where another drafter's proposal was verified, tokens need not begin with
                this one's: compare.
            counts: int64 [B], how many of them are real, at least 1.
            hidden: float [B, T, H * layers] when `hidden_layers` asks for it.
        """

    @abstractmethod
    def stop(self, row: int) -> None:
        """Forget a row; its number may be used again."""

    def remember(self, answer: Sequence[int], most: int) -> None:
        """Take in an answer that the target has given, to draft later ones from.

        Called between steps, once an answer is finished, while other rows may be served: these
        draft from then on as if they had started after it. A run that measures drafts does not call
        it, and `save` does not keep it.

        Args:
            answer: The answer's token ids, at least one.
            most: Tokens of such answers to keep, at least 1; the oldest go first.
        """
        raise NotImplementedError(f"drafter '{self.name}' has no memory")

    def forget(self) -> None:
        """Draft again as if nothing had been remembered."""
        raise NotImplementedError(f"drafter '{self.name}' has no memory")


class TrainableDrafter(Drafter):
    """A drafter whose parameters an aligner can train."""

    @property
    def needs_recovery(self) -> bool:
        """Whether it knows nothing yet, as a model just cut does.

        Such a draft is first taught by distillation on text sampled freely from the target.
        """
        return False

    @property
    @abstractmethod
    def module(self) -> nn.Module:
        """The module that trains; may be replaced by an adapted one through the setter."""

    @module.setter
    @abstractmethod
    def module(self, module: nn.Module) -> None: ...

    @property
    @abstractmethod
    def vocabulary(self) -> Tensor | None:
        """int64 [Vd] target ids of the columns of `training_logits`; None for all."""

    @property
    def longest_text(self) -> int | None:
        """Tokens, drafted ones included, up to which it drafts as trained; None for any number.

        A draft that reads only the newest tokens of a longer text says here how many.
        """
        return None

    @abstractmethod
    def training_states(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """What `training_head` makes logits of, float [M, D], with gradients.

        Row m belongs to the batch's m-th trained position. States and head are apart so that
        the logits of a batch need not exist all at once.
        """

    @property
    @abstractmethod
    def training_head(self) -> nn.Module:
        """Part of `module` that turns states [n, D] into logits [n, Vd], row by row."""

    def training_logits(self, batch: TrainingBatch, teacher: TeacherSignal) -> Tensor:
        """Logits [M, Vd] at the batch's M trained positions, with gradients."""
        logits: Tensor = self.training_head(self.training_states(batch, teacher))
        return logits

    def drafted_states(
        self, batch: TrainingBatch, teacher: TeacherSignal, steps: int
    ) -> Sequence[Tensor]:
        """States [M, D] from which each of the first `steps` tokens of a draft is drafted.

        Entry s is for positions whose token is the s-th drafted one (0: the last emitted one)
        and was drafted just so. A draft that reads tokens alone cannot tell the difference; one
        that reads the target's states has only its own guesses of them from s = 1 on.
        """
        return [self.training_states(batch, teacher)] * steps

    def specialise(self, corpus: DraftCorpus) -> None:  # noqa: B027
        """Narrow the draft to one task, before it is trained on it; by default nothing changes.

        Args:
            corpus: The task's training texts. The same ones give the same draft.
        """

    def save_adapter_extras(self, folder: Path) -> None:  # noqa: B027
        """Write what `add_adapter` needs besides an adapter into the adapter's folder."""

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        counts: Sequence[int],
        sampling: Sampling,
        generator: Generator,
        end_tokens: Collection[int] = (),
    ) -> list[list[int]]:
        """Continue prompts with the weights as they are, for learning from its own texts.

        Args:
            prompts: Token ids of N prompts, none empty.
            counts: Most tokens to write after each, at least 1.
            sampling: The logits processors to sample with.
            generator: The only source of randomness; on the CPU.
            end_tokens: A text ends after the first of these.

        Returns:
            Target ids of N texts, each of at least one token; the module trains on as before.

        Raises:
            ModelError: When this kind of draft cannot write texts of its own.
        """
        raise ModelError(
            f"drafter '{self.name}' writes no texts of its own; align it with `data: teacher`"
        )
