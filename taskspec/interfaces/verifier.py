"""The verifier contract: which drafted tokens stand."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from taskspec.interfaces.plugin import Plugin

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Verdict:
    """The outcome of one verification pass.

    Attributes:
        accepted: int64 [B], how many leading drafted tokens stand, 0..lengths[b].
        next_token: int64 [B], the correction or bonus token after them.
    """

    accepted: Tensor
    next_token: Tensor


class Verifier(Plugin, ABC):
    """Decides which drafted tokens stand and what comes after them.

    Attributes:
        lossless: Whether emitted tokens have exactly the target's distribution.
        samples: Whether it is right for temperatures above zero; one that is not is refused
            for sampling requests.
    """

    lossless: ClassVar[bool] = True
    samples: ClassVar[bool] = True

    @abstractmethod
    def verify(
        self,
        tokens: Tensor,
        lengths: Tensor,
        draft_probs: Tensor | None,
        target_probs: Tensor,
        noise: Tensor,
    ) -> Verdict:
        """Verify B rows independently of each other.

        Args:
            tokens: int64 [B, K] drafted target ids; entries from lengths[b] on are padding.
            lengths: int64 [B], drafted tokens of each row, 0..K.
            draft_probs: float32 [B, K, V], the distribution each token was sampled from, over
                the whole target vocabulary; None when every proposal is deterministic, so that
                each distribution is one-hot at the drafted token.
            target_probs: float32 [B, K+1, V] after every logits processor; position i is the
                target's distribution for the token that tokens[:, i] proposes. Positions after
                lengths[b] are padding.
            noise: float32 [B, K+1], uniform in [0, 1): column i for the acceptance of token i,
                the last column for the next token.

        Returns:
            The verdict; nothing else may influence it.
        """

    def verify_greedy(
        self, tokens: Tensor, lengths: Tensor, best: Tensor, vocabulary_size: int
    ) -> Verdict:
        """Verify B rows whose target is greedy: every distribution is one-hot.

        A lossless verifier has no choice then: what agrees stands, and the target's own token
        follows. One that is not is asked with those distributions and noise of zero.

        Args:
            tokens: int64 [B, K] drafted target ids; entries from lengths[b] on are padding.
            lengths: int64 [B], drafted tokens of each row, 0..K.
            best: int64 [B, K+1], the target's first choice at each position.
            vocabulary_size: V.
        """
        import torch

        if not self.lossless:
            shape = (*best.shape, vocabulary_size)
            probs = torch.zeros(shape, device=best.device).scatter_(-1, best[..., None], 1.0)
            return self.verify(
                tokens, lengths, None, probs, torch.zeros(best.shape).to(best.device)
            )
        drafted = torch.arange(tokens.shape[1], device=tokens.device) < lengths[:, None]
        stands = (tokens == best[:, :-1]) & drafted
        accepted = stands.long().cumprod(dim=1).sum(dim=1)
        return Verdict(accepted, best.gather(1, accepted[:, None])[:, 0])
