"""What alignment sees of the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TrainingBatch:
    """Packed or padded sequences of prompt and answer.

    Attributes:
        tokens: int64 [B, T].
        positions: int64 [B, T], position ids; they restart at 0 with each packed sequence.
        segments: int64 [B, T], number of the packed sequence each token belongs to, -1 padding;
            tokens attend within their segment only.
        trained: bool [B, T], True where the next token is an answer token: M positions in all.
    """

    tokens: Tensor
    positions: Tensor
    segments: Tensor
    trained: Tensor


class TeacherSignal(Protocol):
    """The target's view of the M trained positions of a batch."""

    @property
    def tokens(self) -> Tensor:
        """int64 [M], what the target says after each trained position.

        The answer's token; in a text that the draft wrote, the target's most likely one.
        """
        ...

    @property
    def hidden(self) -> Tensor:
        """The float [M, H] states: the target's final normalised hidden state there.

        Raises:
            ModelError: When the signal was stored as top-k, which keeps no states.
        """
        ...

    def log_probs(self, vocabulary: Tensor | None) -> Tensor:
        """Target log-probabilities float32 [M, Vd] at these ids.

        They are normalised over the *full* vocabulary: with a trimmed one, exp sums to less
        than one and the missing mass is the tail. Impossible tokens have -inf.
        """
        ...

    def part(self, positions: slice) -> TeacherSignal:
        """The view of some of the M positions."""
        ...
