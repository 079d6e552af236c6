"""What is known of drafts before any is made: whether they fit the target and can learn."""

from __future__ import annotations

from taskspec.errors import ModelError
from taskspec.interfaces import Aligner, Drafter, TrainableDrafter
from taskspec.pipeline.context import RunContext
from taskspec.recipe.plugins import make_plugin, make_plugin_options


def check_drafts(context: RunContext) -> None:
    """Refuse drafts that do not fit the target now, not after minutes of work.

    Raises:
        ModelError: Naming the draft.
    """
    for name, choice in context.recipe.draft.pool.items():
        drafter = context.registry.get("drafter", choice.use)
        assert issubclass(drafter, Drafter)
        try:
            drafter.check(context.target, make_plugin_options(context.registry, "drafter", choice))
            _check_teaching(context, name, drafter)
        except ModelError as error:
            raise ModelError(f"draft.pool.{name}: {error}") from None


def _check_teaching(context: RunContext, name: str, drafter: type[Drafter]) -> None:
    """Refuse a draft that cannot learn as the recipe says.

    Raises:
        ModelError: When it needs states that are not kept, or writes no texts of its own.
    """
    if not issubclass(drafter, TrainableDrafter):
        return
    if drafter.hidden_layers and context.recipe.collect.signal == "top-k":
        raise ModelError(
            f"drafter '{drafter.name}' learns from the target's hidden states, which "
            "collect.signal: top-k does not keep; set it to states or none"
        )
    align = context.recipe.align
    for choice in (align.aligner_of(name), align.recovery):
        aligner = make_plugin(context.registry, "aligner", choice)
        assert isinstance(aligner, Aligner)
        if aligner.student_share(1.0) > 0 and align.trainer.strategy == "fsdp":
            raise ModelError(
                "with align.trainer.strategy: fsdp its weights are in pieces, so that it cannot "
                "write texts of its own to learn from; set the aligner's option data to teacher, "
                "or the strategy to ddp"
            )
        if aligner.student_share(1.0) > 0 and drafter.sample is TrainableDrafter.sample:
            raise ModelError(
                f"drafter '{drafter.name}' writes no texts of its own to learn from; set the "
                f"aligner's option data to teacher, or leave the draft out of the pool"
            )
