"""Which of a bundle's drafts take in which served answers."""

from __future__ import annotations

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.interfaces import Drafter
from taskspec.serving.bundle import Bundle


def answer_memory(bundle: Bundle, most: int | None = None) -> AnswerMemory | None:
    """Lets a bundle's drafts learn from what it answers.

    An answer goes to the draft that its prompt was routed to, to those that served it, and to those
    that were made for every task, the fallback's among them. A draft that drafts with others has
    these take it in.

    Args:
        bundle: A loaded bundle.
        most: Answer tokens that each draft keeps; None takes the recipe's `decode.remember`.

    Returns:
        None where nothing is kept, or no draft remembers.
    """
    if most is None:
        most = int(bundle.manifest.decode.get("remember", 0))
    if not most:
        return None
    entries, fallback = bundle.pool.entries, bundle.manifest.fallback.draft
    common = [name for name, entry in entries.items() if not entry.of_task or name == fallback]
    learners: dict[str | None, list[Drafter]] = {None: _learners(bundle, common)}
    for name, entry in entries.items():
        learners[entry.key] = _learners(bundle, [name, *common])
    return AnswerMemory(learners, most) if any(learners.values()) else None


def _learners(bundle: Bundle, names: list[str]) -> list[Drafter]:
    """The drafters behind entries that remember, each once."""
    entries, drafters = bundle.pool.entries, bundle.pool.drafters
    parts = (part for name in names for part in (name, *entries[name].members))
    keys = dict.fromkeys(entries[part].key for part in parts)
    return [drafters[key] for key in keys if drafters[key].remembers]
