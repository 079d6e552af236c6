"""Whether a draft speaks the target's tokens."""

from __future__ import annotations

from typing import Any

from taskspec.errors import ModelError

_SHOWN = 3


def check_same_tokenizer(target: Any, draft: Any) -> None:
    """Compare token strings and special tokens; padding of the vocabulary's end may differ.

    Args:
        target: The target's transformers tokenizer.
        draft: The draft's.

    Raises:
        ModelError: Naming the first differences.
    """
    ours: dict[str, int] = target.get_vocab()
    theirs: dict[str, int] = draft.get_vocab()
    differing = [token for token, index in ours.items() if theirs.get(token) != index]
    extra = [token for token in theirs if token not in ours]
    if target.eos_token != draft.eos_token and not differing:
        differing = [str(target.eos_token)]
    if not differing and not extra:
        return
    first = sorted(differing, key=lambda token: ours.get(token, 0)) or sorted(extra)
    shown = ", ".join(
        f"{token!r} is {ours.get(token, 'absent')} for the target and "
        f"{theirs.get(token, 'absent')} for the draft"
        for token in first[:_SHOWN]
    )
    raise ModelError(
        f"the draft has another tokenizer than the target: {len(differing) + len(extra)} tokens "
        f"differ ({shown}); choose a draft of the target's model family, or cut one from the target"
    )
