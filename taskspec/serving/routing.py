"""From a prompt to its task, and from the task to its draft."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.interfaces import Encoder, Router
from taskspec.recipe.plugins import make_plugin_options
from taskspec.recipe.schema import RouteConfig
from taskspec.registry import Registry


@dataclass(frozen=True)
class Assignment:
    """How requests of one task are decoded.

    Attributes:
        task: Name of the task.
        draft: Name of a draft of the pool; None decodes plainly.
        draft_length: Tokens drafted per step; 0 for plain decoding.
        curve: What the draft brought on the task's validation prompts, from which
            `taskspec calibrate` chooses the length anew; None where that is not known.
    """

    task: str
    draft: str | None
    draft_length: int
    curve: AcceptanceCurve | None = None


def read_assignment(value: Mapping[str, Any]) -> Assignment:
    """An assignment from its JSON object."""
    curve = value.get("curve")
    if curve is not None:
        curve = AcceptanceCurve(**{name: tuple(each) for name, each in curve.items()})
    return Assignment(value["task"], value["draft"], value["draft_length"], curve)


@dataclass(frozen=True)
class Route:
    """The router's decision about one prompt.

    Attributes:
        assignment: What was chosen.
        label: The router's class, whose assignment it is: a task's label or, of a router that
            learnt what is fastest, one of the ways to decode; None when it abstained.
        probability: The router's probability for the likeliest class.
        seconds: Time that encoding and routing took.
    """

    assignment: Assignment
    label: int | None
    probability: float
    seconds: float


@dataclass(frozen=True)
class PromptRouter:
    """Encodes a prompt, asks the router, abstains below a threshold or on an unknown text.

    Attributes:
        encoder: Fitted encoder of prompts.
        router: Fitted router.
        assignments: One per class of the router.
        fallback: Used when the router abstains.
        threshold: Least probability of the likeliest class; at 1 it always abstains.
    """

    encoder: Encoder
    router: Router
    assignments: Sequence[Assignment]
    fallback: Assignment
    threshold: float

    def route(self, text: str) -> Route:
        """Choose the draft for a prompt's text."""
        started = time.perf_counter()
        inputs = router_inputs(self.router, self.encoder, [text])
        probabilities = self.router.predict_proba(inputs)[0]
        label = int(probabilities.argmax())
        # A zero vector is a text of which the encoder knows nothing.
        known = self.router.reads_text or bool(inputs.any())
        # A sure router's probability may round to 1.
        certain = known and self.threshold < 1 and bool(probabilities[label] >= self.threshold)
        return Route(
            assignment=self.assignments[label] if certain else self.fallback,
            label=label if certain else None,
            probability=float(probabilities[label]),
            seconds=time.perf_counter() - started,
        )


def router_inputs(router: Router, encoder: Encoder, texts: Sequence[str]) -> Any:
    """What a router reads of N texts: themselves, or the encoder's vectors float32 [N, D]."""
    return list(texts) if router.reads_text else encoder.encode(texts)


def load_prompt_router(
    folder: Path,
    config: RouteConfig,
    registry: Registry,
    assignments: Sequence[Assignment],
    fallback: Assignment,
    threshold: float,
) -> PromptRouter:
    """Load a trained router and its encoder from `folder/router` and `folder/encoder`.

    Args:
        folder: What the route stage wrote, or a bundle.
        config: Names router and encoder, with their options.
        registry: The plugins.
        assignments: One per class of the router.
        fallback: Used when the router abstains.
        threshold: Below this probability it does.
    """
    encoder_class = registry.get("encoder", config.encoder.use)
    router_class = registry.get("router", config.use)
    assert issubclass(encoder_class, Encoder) and issubclass(router_class, Router)
    encoder_options = make_plugin_options(registry, "encoder", config.encoder)
    router_options = make_plugin_options(registry, "router", config)
    return PromptRouter(
        encoder=encoder_class.load(folder / "encoder", encoder_options),
        router=router_class.load(folder / "router", router_options),
        assignments=assignments,
        fallback=fallback,
        threshold=threshold,
    )
