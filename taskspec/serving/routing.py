"""From a prompt to its task, and from the task to its draft."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.errors import ArtifactError
from taskspec.interfaces import Encoder, Router
from taskspec.recipe.assignment import RouteConfig
from taskspec.recipe.plugins import make_plugin_options
from taskspec.registry import Registry
from taskspec.serving.known import KnownPrompts, load_known


@dataclass(frozen=True)
class Assignment:
    """How requests of one task are decoded.

    Attributes:
        task: Name of the task.
        draft: Name of a draft of the pool; None decodes plainly.
        draft_length: Tokens drafted per step; 0 for plain decoding.
        curve: What the draft brought on the task's validation prompts, from which
            `taskspec calibrate` chooses the length anew; None where that is not known.
        trials: Of each of these prompts, steps that drafted, and those of them whose first drafted
            token stood: how often that happens does not depend on the length.
    """

    task: str
    draft: str | None
    draft_length: int
    curve: AcceptanceCurve | None = None
    trials: tuple[tuple[int, int], ...] = ()


def read_assignment(value: Mapping[str, Any]) -> Assignment:
    """An assignment from its JSON object."""
    curve = value["curve"]
    if curve is not None:
        curve = AcceptanceCurve(**{name: tuple(each) for name, each in curve.items()})
    trials = tuple((tries, stood) for tries, stood in value["trials"])
    return Assignment(value["task"], value["draft"], value["draft_length"], curve, trials)


@dataclass(frozen=True)
class Route:
    """The router's decision about one prompt.

    Attributes:
        assignment: What was chosen.
        label: The router's class, whose assignment it is: a task's label or, of a router that
            learnt what is fastest, one of the ways to decode; None when it abstained.
        probability: The router's probability for the likeliest class.
        seconds: Time that encoding and routing took.
        distance: From the nearest task's prompts, known ones keeping to 1; None where that was
            not measured.
    """

    assignment: Assignment
    label: int | None
    probability: float
    seconds: float
    distance: float | None = None

    @property
    def unknown(self) -> bool:
        """Whether the prompt lies farther from every task than known prompts do."""
        return self.distance is not None and self.distance > 1


@dataclass(frozen=True)
class PromptRouter:
    """Encodes a prompt, asks the router, abstains below a threshold or on an unknown text.

    Attributes:
        encoder: Fitted encoder of prompts.
        router: Fitted router.
        assignments: One per class of the router.
        fallback: Used when the router abstains.
        threshold: Least probability of the likeliest class; at 1 it always abstains.
        known: Measures how far a prompt lies from known ones; None leaves that out.
        quarantine: Whether the fallback answers prompts that lie too far.
    """

    encoder: Encoder
    router: Router
    assignments: Sequence[Assignment]
    fallback: Assignment
    threshold: float
    known: KnownPrompts | None = None
    quarantine: bool = False

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
        distance = self._distance(text, inputs)
        if self.quarantine and distance is not None and distance > 1:
            certain = False
        return Route(
            assignment=self.assignments[label] if certain else self.fallback,
            label=label if certain else None,
            probability=float(probabilities[label]),
            seconds=time.perf_counter() - started,
            distance=distance,
        )

    def _distance(self, text: str, inputs: Any) -> float | None:
        if self.known is None:
            return None
        vectors = self.encoder.encode([text]) if self.router.reads_text else inputs
        return float(self.known.distances(vectors)[0])


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

    Distances from known prompts are measured where they cost no encoding of their own, and where
    the recipe asks for quarantine.

    Args:
        folder: What the route stage wrote, or a bundle.
        config: Names router and encoder, with their options.
        registry: The plugins.
        assignments: One per class of the router.
        fallback: Used when the router abstains.
        threshold: Below this probability it does.

    Raises:
        ArtifactError: When it does, and no distances were measured when the router was trained.
    """
    encoder_class = registry.get("encoder", config.encoder.use)
    router_class = registry.get("router", config.use)
    assert issubclass(encoder_class, Encoder) and issubclass(router_class, Router)
    encoder_options = make_plugin_options(registry, "encoder", config.encoder)
    router_options = make_plugin_options(registry, "router", config)
    known = None if router_class.reads_text and not config.quarantine else load_known(folder)
    if config.quarantine and known is None:
        raise ArtifactError(
            f"{folder} does not say how far from known prompts others lie: it is older than "
            "route.quarantine, which needs that, or its encoder's vectors do not tell; remove its "
            "router's stage and run the recipe again, or set route.quarantine to false"
        )
    return PromptRouter(
        encoder=encoder_class.load(folder / "encoder", encoder_options),
        router=router_class.load(folder / "router", router_options),
        assignments=assignments,
        fallback=fallback,
        threshold=threshold,
        known=known,
        quarantine=config.quarantine,
    )
