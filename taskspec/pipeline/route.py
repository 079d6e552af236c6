"""Stage 7: a router from prompt to task, or to the way of decoding that is fastest for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.evaluation.routing import RoutedPrompt, to_json
from taskspec.interfaces import Encoder, Router
from taskspec.pipeline.artifacts import write_atomically
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.knowing import write_known
from taskspec.pipeline.partition import Tasks, load_tasks
from taskspec.pipeline.routes import Routes, write_routes
from taskspec.pipeline.speed_routes import learn_by_speed
from taskspec.pipeline.stage import Stage
from taskspec.recipe.plugins import make_plugin

ROUTING = "routing.jsonl"
_Vectors = Mapping[str, NDArray[np.float32]]
"""Encoded prompts [D], by their ids."""


class Route(Stage):
    """Trains the router on training prompts and the tasks found for them, or what is fastest.

    The router sees prompts only, also when the partition saw answers, because a prompt is all
    there is when a request comes in. Drafts matter only where the recipe asks for labels by speed
    or a threshold found by it, so only then does the stage wait for them.
    """

    name = "route"
    needs = ("collect", "partition")

    def reads(self, context: RunContext) -> tuple[str, ...]:
        """The drafts and their assignment too, where their speed is measured."""
        drafts = ("draft", "align", "assign") if context.recipe.route.measures_speed else ()
        return (*self.needs, *drafts)

    def settings(self, context: RunContext) -> Any:
        """The router, its encoder, the seed, and how speed is measured where it is."""
        recipe = context.recipe
        route = recipe.route
        measured = {
            "labels": route.labels,
            "measured": "validation",
            "speed_prompts": route.speed_prompts,
            "threshold": route.threshold,
        }
        return {
            "router": context.plugin_identity("router", route),
            "encoder": context.plugin_identity("encoder", route.encoder),
            "seed": recipe.seed,
            **(measured if route.measures_speed else {}),
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `encoder/`, `router/` and, of validation prompts, `routing.jsonl`.

        Where speed is measured, `route.json` says what the router decides between, from what
        probability on, and how its choices compare. `known.safetensors` says how far from the tasks
        known prompts lie.
        """
        tasks = load_tasks(context.stage_folders["partition"])
        examples = [e for e in known_examples(context) if tasks.labels[e.id] >= 0]
        train = [example for example in examples if example.split == "train"]
        encoder = make_plugin(context.registry, "encoder", context.recipe.route.encoder)
        assert isinstance(encoder, Encoder)
        encoder.fit([example.prompt_text for example in train])
        encoded = encoder.encode([example.prompt_text for example in examples])
        vectors = {each.id: own for each, own in zip(examples, encoded, strict=True)}

        def fit(prompts: Sequence[Example], labels: Sequence[int]) -> Router:
            made = make_plugin(context.registry, "router", context.recipe.route)
            assert isinstance(made, Router)
            inputs = _inputs(made, prompts, vectors)
            made.fit(inputs, np.array(labels, dtype=np.int64), context.recipe.seed)
            return made

        if context.recipe.route.measures_speed:
            learnt = learn_by_speed(context, tasks, train, encoder, fit)
            write_routes(folder, learnt.routes)
            router, routed, said = learnt.router, list(learnt.prompts), _describe(learnt.routes)
        else:
            router = fit(train, [tasks.labels[example.id] for example in train])
            routed, said = [], ""
        if not routed:
            held = [example for example in examples if example.split == "validation"]
            routed = _beside_partition(held, tasks, vectors, router) if held else []
        for name, part in (("encoder", encoder), ("router", router)):
            (folder / name).mkdir(exist_ok=True)
            part.save(folder / name)
        write_known(folder, examples, encoded, tasks)
        if routed:
            write_atomically(folder / ROUTING, to_json(routed))
        return f"{router.name} on {encoder.name}; {said or _accuracy(routed)}"


def _inputs(router: Router, examples: Sequence[Example], vectors: _Vectors) -> Any:
    """What a router reads of prompts that are encoded already."""
    if router.reads_text:
        return [each.prompt_text for each in examples]
    return np.stack([vectors[each.id] for each in examples])


def _accuracy(routed: Sequence[RoutedPrompt]) -> str:
    if not routed:
        return "no validation prompts to score it"
    return f"{np.mean([each.right for each in routed]):.1%} of validation prompts to their task"


def _describe(routes: Routes) -> str:
    """Threshold and predicted regret, beside those of what else was compared."""
    used, *others = routes.scores
    beside = [f"by {each.labels} {each.regret:.1%}" for each in others]
    beside.append(f"fallback alone {routes.fallback_regret:.1%}")
    return (
        f"by {used.labels}, threshold {used.threshold:.2f}; predicted regret on {routes.prompts} "
        f"validation prompts {used.regret:.1%} ({', '.join(beside)})"
    )


def _beside_partition(
    examples: Sequence[Example], tasks: Tasks, vectors: _Vectors, router: Router
) -> list[RoutedPrompt]:
    """The router's likeliest task of each prompt, and the one that the partition put it in."""
    probabilities = router.predict_proba(_inputs(router, examples, vectors))
    return [
        RoutedPrompt(
            example.id,
            tasks.names[tasks.labels[example.id]],
            tasks.names[int(row.argmax())],
            int(row.argmax()) == tasks.labels[example.id],
            float(row.max()),
        )
        for example, row in zip(examples, probabilities, strict=True)
    ]
