"""Stage 7: a router from prompt to task."""

from __future__ import annotations

from collections.abc import Sequence
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
from taskspec.pipeline.stage import Stage
from taskspec.recipe.plugins import make_plugin
from taskspec.serving.routing import router_inputs

ROUTING = "routing.jsonl"


class Route(Stage):
    """Trains the router on training prompts and the tasks found for them.

    The router sees prompts only, also when the partition saw answers, because a prompt is all
    there is when a request comes in.
    """

    name = "route"
    needs = ("collect", "partition")

    def settings(self, context: RunContext) -> Any:
        """The router, its encoder and the seed."""
        route = context.recipe.route
        return {
            "router": context.plugin_identity("router", route),
            "encoder": context.plugin_identity("encoder", route.encoder),
            "seed": context.recipe.seed,
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `encoder/`, `router/`, and of validation prompts `routing.jsonl`.

        `known.safetensors` says how far from the tasks known prompts lie.
        """
        tasks = load_tasks(context.stage_folders["partition"])
        examples = [e for e in known_examples(context) if tasks.labels[e.id] >= 0]
        train = [example for example in examples if example.split == "train"]
        encoder = make_plugin(context.registry, "encoder", context.recipe.route.encoder)
        router = make_plugin(context.registry, "router", context.recipe.route)
        assert isinstance(encoder, Encoder) and isinstance(router, Router)
        texts = [example.prompt_text for example in train]
        encoder.fit(texts)
        labels = np.array([tasks.labels[example.id] for example in train], dtype=np.int64)
        router.fit(router_inputs(router, encoder, texts), labels, context.recipe.seed)
        for name, part in (("encoder", encoder), ("router", router)):
            (folder / name).mkdir(exist_ok=True)
            part.save(folder / name)
        write_known(folder, encoder, examples, tasks)
        held = [example for example in examples if example.split == "validation"]
        if not held:
            return f"{router.name} on {encoder.name}; no validation prompts to score it"
        inputs = router_inputs(router, encoder, [example.prompt_text for example in held])
        routed = _beside_partition(held, tasks, router.predict_proba(inputs))
        write_atomically(folder / ROUTING, to_json(routed))
        right = np.mean([each.right for each in routed])
        return f"{router.name} on {encoder.name}; {right:.1%} of validation prompts to their task"


def _beside_partition(
    examples: Sequence[Example], tasks: Tasks, probabilities: NDArray[np.float32]
) -> list[RoutedPrompt]:
    """The router's likeliest task of each prompt, and the one that the partition put it in."""
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
