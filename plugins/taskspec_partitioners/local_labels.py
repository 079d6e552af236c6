"""Labels from a language model on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from taskspec_partitioners.asking import (
    Turns,
    naming_turns,
    read_name,
    scoring_turns,
    shorten,
)

if TYPE_CHECKING:
    from taskspec.interfaces import Target

_CONTENT_FREE = ("N/A", "[MASK]", "")
_NAME_TOKENS = 12


class LocalLabeller:
    """Scores labels by their likelihood and writes names greedily; nothing is random."""

    def __init__(self, target: Target, characters: int) -> None:
        """Ask this model.

        Args:
            target: A causal language model with its tokenizer.
            characters: Longest part of a text that it is shown.
        """
        self._target = target
        self._characters = characters
        untyped: Any = target.model
        self._decoder = untyped.get_decoder()

    def choose(self, texts: Sequence[str], labels: Sequence[str]) -> list[int | None]:
        """The label with the largest calibrated score for each text."""
        bias = torch.stack([self.score(each, labels) for each in _CONTENT_FREE]).mean(dim=0)
        return [int((self.score(text, labels) - bias).argmax()) for text in texts]

    @torch.inference_mode()
    def score(self, text: str, labels: Sequence[str]) -> Tensor:
        """Mean log-likelihood per token of each label as the answer, float32 [C].

        What a label scores after a text without content is the model's taste, which `choose`
        subtracts (contextual calibration, Zhao et al. 2021, arXiv 2102.09690, in the log domain).
        """
        answers = [
            self._target.tokenizer(label, add_special_tokens=False)["input_ids"] for label in labels
        ]
        longest = max(map(len, answers))
        prefix = self._ids(scoring_turns(shorten(text, self._characters)), room=longest)
        read = self._decoder(input_ids=self._tensor([prefix]), use_cache=True)
        tokens = self._tensor([each + [0] * (longest - len(each)) for each in answers])  # [C, L]
        logs = [self._logs(read.last_hidden_state[:, -1:]).expand(len(answers), -1, -1)]
        if longest > 1:
            cache = read.cache
            cache.batch_repeat_interleave(len(answers))
            # Padding comes last, where no real token sees it.
            written = self._decoder(input_ids=tokens[:, :-1], cache=cache)
            logs.append(self._logs(written.last_hidden_state))
        each = torch.cat(logs, dim=1).gather(-1, tokens[..., None])[..., 0]  # [C, L]
        lengths = torch.tensor([len(answer) for answer in answers], device=each.device)
        real = torch.arange(longest, device=each.device) < lengths[:, None]
        return (each.masked_fill(~real, 0.0).sum(dim=1) / lengths).cpu()

    def name(self, texts: Sequence[str]) -> list[str | None]:
        """The first line that the model writes about each text, cut to four words."""
        return [read_name(self._write(naming_turns(shorten(t, self._characters)))) for t in texts]

    @torch.inference_mode()
    def _write(self, turns: Turns) -> str:
        """The greedy answer up to the end of its first line."""
        tokens = self._ids(turns, room=_NAME_TOKENS)
        answer: list[int] = []
        cache = None
        text = ""
        while len(answer) < _NAME_TOKENS and "\n" not in text.lstrip():
            read = self._decoder(input_ids=self._tensor([tokens]), cache=cache, use_cache=True)
            cache = read.cache
            token = int(self._target.head(read.last_hidden_state[:, -1]).argmax())
            if token in self._target.eos_token_ids:
                break
            answer.append(token)
            tokens = [token]
            text = self._target.tokenizer.decode(answer, skip_special_tokens=True)
        return text

    def _ids(self, turns: Turns, room: int) -> list[int]:
        """Prompt ids up to where the answer begins; a middle that does not fit is left out."""
        tokenizer = self._target.tokenizer
        if tokenizer.chat_template is None:
            text = "\n".join(turn["content"] for turn in turns) + "\n"
            ids: list[int] = tokenizer(text)["input_ids"]
        else:
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        half = max((self._target.context_length - room) // 2, 1)
        return ids if len(ids) <= 2 * half else ids[:half] + ids[-half:]

    def _tensor(self, ids: list[list[int]]) -> Tensor:
        return torch.tensor(ids, device=self._target.device)

    def _logs(self, hidden: Tensor) -> Tensor:
        return self._target.head(hidden).float().log_softmax(dim=-1)
