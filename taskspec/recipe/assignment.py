"""The part of a recipe that says which draft decodes what."""

from __future__ import annotations

from dataclasses import dataclass, field

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.ranges import at_least, one_of

AUTO = "auto"


@dataclass(frozen=True)
class AssignConfig:
    """How each task gets its draft and draft length: by measured speed.

    Attributes:
        objective: `speedup`, the most tokens per second over all prompts; `latency`, the least
            time per answer beside plain decoding's, prefill included and each answer counting
            alike, however short; `memory`, the smallest draft that keeps `memory_share` of the
            highest speed-up.
        memory_share: Share of the highest speed-up that `memory` may not fall below.
        max_memory: Megabytes that all chosen drafts may take together, as stored, the
            fallback's included; null sets no limit.
        draft_lengths: Draft lengths to consider.
        prompts_per_task: Validation prompts measured per task; one alone would bound nothing.
        max_new_tokens: Tokens decoded per prompt while measuring.
        margin: The lower end of a draft's measured 95 % interval must reach this speed-up over
            plain decoding, otherwise the task is decoded plainly.
        drafts: Drafts of the pool that tasks and the fallback may get; empty for all, and for those
            made from all data.
        resamples: Bootstrap resamples of an interval.
    """

    objective: str = "speedup"
    memory_share: float = 0.95
    max_memory: float | None = None
    draft_lengths: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 8])
    prompts_per_task: int = 8
    max_new_tokens: int = 48
    margin: float = 1.0
    drafts: list[str] = field(default_factory=list)
    resamples: int = 2_000

    def __post_init__(self) -> None:
        one_of("objective", self.objective, ("speedup", "latency", "memory"))
        if not 0 < self.memory_share <= 1:
            raise ValueError(
                f"memory_share must be above 0 and at most 1, not {self.memory_share:g}"
            )
        if self.max_memory is not None:
            at_least("max_memory", self.max_memory, 0)
        if not self.draft_lengths or min(self.draft_lengths) < 1:
            raise ValueError("draft_lengths must list lengths of at least 1")
        at_least("prompts_per_task", self.prompts_per_task, 2)
        at_least("max_new_tokens", self.max_new_tokens, 1)
        at_least("margin", self.margin, 0)
        at_least("resamples", self.resamples, 1)


@dataclass(frozen=True)
class RouteConfig(PluginChoice):
    """How a prompt finds its draft.

    Attributes:
        encoder: Encoder of prompts for the router; it never sees answers.
        labels: What the router learns: `task`, a prompt's task, whose draft then decodes it; or
            `speed`, which of the assigned drafts, or plain decoding, is fastest for the prompt
            itself.
        speed_prompts: The most validation prompts per task on which drafts are measured: to score a
            router's choices, and where labels are by speed half of them to find the fastest draft.
        threshold: Below this probability the router abstains and the fallback decodes; at 1 it
            always abstains. `auto` takes what is fastest on validation prompts.
        fallback: `single` (the fastest draft made from all data) or `plain`.
        quarantine: The fallback also decodes prompts that lie farther from every task's than 99 %
            of validation prompts do, in the encoder's vectors.
    """

    use: str = "logistic"
    encoder: PluginChoice = field(default_factory=lambda: PluginChoice(use="tfidf"))
    labels: str = "task"
    speed_prompts: int = 24
    threshold: float | int | str = 0.5
    fallback: str = "single"
    quarantine: bool = False

    def __post_init__(self) -> None:
        one_of("labels", self.labels, ("task", "speed"))
        at_least("speed_prompts", self.speed_prompts, 1)
        try:
            threshold = self.fixed_threshold
        except ValueError:
            message = f"threshold must be a number or auto, not '{self.threshold}'"
            raise ValueError(message) from None
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, not {threshold:g}")
        one_of("fallback", self.fallback, ("single", "plain"))

    @property
    def fixed_threshold(self) -> float | None:
        """The threshold, if the recipe says it; None where it is found while routing is learnt."""
        return None if self.threshold == AUTO else float(self.threshold)

    @property
    def measures_speed(self) -> bool:
        """Whether routing is learnt from what the assigned drafts do on single prompts."""
        return self.labels == "speed" or self.fixed_threshold is None
