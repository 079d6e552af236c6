"""Stage 4: the pool of drafts, before any task is known to them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from taskspec.corpus.answers import StoredAnswer
from taskspec.errors import CorpusError
from taskspec.interfaces import DraftCorpus, Drafter, TrainableDrafter
from taskspec.pipeline.answering import FREE, load_answers
from taskspec.pipeline.artifacts import digest, results_of
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.draft_checks import check_drafts
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.partition import load_tasks
from taskspec.pipeline.stage import Stage
from taskspec.pipeline.teaching import Course, teach
from taskspec.pipeline.together import do_together
from taskspec.recipe.plugins import make_plugin_options


class Draft(Stage):
    """Builds every draft of the pool.

    A draft cut from the target knows nothing after the cut; it is recovered by distillation on
    text sampled freely from the target, with as many tokens as all task alignment together. The
    result is the vanilla draft of the benchmark and the base of the aligned ones.
    """

    name = "draft"
    needs = ("collect", "partition")
    together = True
    salvages = True

    def settings(self, context: RunContext) -> Any:
        """The pool, how cut drafts are recovered, and the seed."""
        recipe = context.recipe
        return {
            "pool": {
                name: context.plugin_identity("drafter", choice)
                for name, choice in recipe.draft.pool.items()
            },
            "recovery": context.plugin_identity("aligner", recipe.align.recovery),
            "tokens": recipe.align.tokens,
            "learning_rate": recipe.align.recovery_learning_rate,
            "training": training_settings(context),
            "seed": recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write one folder per draft of the pool."""
        if context.writes:
            check_drafts(context)
        answers = split_answers(context, "train")
        settings = self.settings(context)
        # Of the tasks nothing counts but how many there are; which prompts are known does.
        tasks = len(load_tasks(context.stage_folders["partition"]).names)
        known = [(each.id, each.split) for each in known_examples(context)]
        collected = results_of([context.stage_folders["collect"]])
        lines = []
        for name in context.recipe.draft.pool:
            own = settings | {"pool": settings["pool"][name]}
            identity = digest([own, name, tasks, known, *collected])
            build = partial(self._build, context, name, answers)
            made = do_together(context, folder / name, identity, build)
            lines += made or [f"{name}: kept"]
        return "; ".join(lines)

    def _build(
        self, context: RunContext, name: str, answers: Sequence[StoredAnswer], work: Path
    ) -> str:
        drafter = build_draft(context, name, answers)
        line = f"{name}: {drafter.name}"
        if isinstance(drafter, TrainableDrafter) and drafter.needs_recovery:
            texts = load_answers(context.stage_folders["collect"], FREE)
            free = [texts[number] for number in sorted(texts)]
            if not free:
                raise CorpusError(
                    f"draft '{name}' is cut from the target and must be recovered on free text, "
                    "but collect.free_text_tokens is 0; raise it (40000 is a good start)"
                )
            recipe = context.recipe
            tasks = load_tasks(context.stage_folders["partition"])
            course = Course(
                recipe.align.recovery,
                free,
                split_answers(context, "validation"),
                recipe.align.tokens * len(tasks.names),
                recipe.align.recovery_learning_rate,
                f"recovering {name}",
            )
            report = teach(context, work / "training", drafter, course)
            line += f", recovered on {report.tokens:,} tokens in {report.seconds:.0f} s"
        if context.writes:
            (work / "draft").mkdir(exist_ok=True)
            drafter.save(work / "draft")
        return line


def build_draft(context: RunContext, name: str, answers: Sequence[StoredAnswer]) -> Drafter:
    """A draft of the pool, made for the target from some of its answers."""
    corpus = DraftCorpus(
        prompts=[answer.prompt_ids for answer in answers],
        answers=[answer.answer_ids for answer in answers],
    )
    options = make_plugin_options(context.registry, "drafter", context.recipe.draft.pool[name])
    return drafter_class(context, name).build(context.target, corpus, options)


def drafter_class(context: RunContext, name: str) -> type[Drafter]:
    """The plugin of a draft of the pool."""
    found = context.registry.get("drafter", context.recipe.draft.pool[name].use)
    assert issubclass(found, Drafter)
    return found


def split_answers(context: RunContext, split: str) -> list[StoredAnswer]:
    """Answers to the prompts of `train` or `validation`, in the corpus's order."""
    stored = load_answers(context.stage_folders["collect"])
    return [stored[e.id] for e in known_examples(context) if e.split == split]


def training_settings(context: RunContext) -> Any:
    """What every training run of the recipe shares, for fingerprints."""
    align = context.recipe.align
    return {
        "batch_tokens": align.batch_tokens,
        "warmup": align.warmup,
        "weight_decay": align.weight_decay,
        "loss_logits": align.loss_logits,
        "ema": align.ema,
        "held_out": align.held_out,
        "early_stopping": align.early_stopping,
        "trainer": plain(align.trainer),
    }


def draft_folder(context: RunContext, name: str) -> Path:
    """Where a draft of the pool was saved."""
    return context.stage_folders["draft"] / name / "draft"
