"""Asking the Hugging Face hub once and briefly, before anything waits for it."""

from __future__ import annotations

from enum import Enum

_SECONDS = 5
"""A hub that is there answers sooner; libraries that load from it retry for minutes."""


class HubAnswer(Enum):
    """What is known of a model on the hub."""

    PRESENT = "present"
    ABSENT = "absent"
    CACHED = "cached"
    UNREACHABLE = "unreachable"


def ask_hub(repository: str) -> HubAnswer:
    """Whether a model can be had from the hub.

    Args:
        repository: A hub id, `organisation/name`.

    Returns:
        PRESENT when the hub has it; ABSENT when it has not, or when it is no hub id at all; and
        when the hub cannot be asked (no network, `HF_HUB_OFFLINE`): CACHED when files of the
        model are on this machine, else UNREACHABLE.
    """
    from huggingface_hub import model_info, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        model_info(repository, timeout=_SECONDS)
    except (HFValidationError, RepositoryNotFoundError):
        return HubAnswer.ABSENT
    except Exception:  # whatever the HTTP client of this version of the library raises
        cached = try_to_load_from_cache(repository, "config.json")
        return HubAnswer.CACHED if isinstance(cached, str) else HubAnswer.UNREACHABLE
    return HubAnswer.PRESENT
