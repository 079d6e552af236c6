"""What a run's router decides between, and from what probability on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from taskspec.decoding.cost import mean_curve
from taskspec.pipeline.artifacts import read_json, write_json
from taskspec.pipeline.assign import Assigned
from taskspec.pipeline.context import RunContext
from taskspec.serving.routing import (
    Assignment,
    PromptRouter,
    load_prompt_router,
    read_assignment,
)

ROUTES = "route.json"
PLAINLY = "plain decoding"


@dataclass(frozen=True)
class RouteScore:
    """A way of routing on validation prompts, by predicted seconds.

    Attributes:
        labels: What the router learnt: `task` or `speed`.
        threshold: Below this probability it abstained.
        regret: 1 - S / S_oracle, the oracle taking the fastest way for every prompt.
    """

    labels: str
    threshold: float
    regret: float


@dataclass(frozen=True)
class Routes:
    """What the router decides between.

    Attributes:
        classes: One assignment per class of the router.
        threshold: Below this probability it abstains.
        prompts: Validation prompts that the scores are of.
        scores: Ways of routing that were compared; the first is the one in use.
        fallback_regret: The regret of the fallback alone; None when nothing was compared.
    """

    classes: tuple[Assignment, ...]
    threshold: float
    prompts: int = 0
    scores: tuple[RouteScore, ...] = ()
    fallback_regret: float | None = None

    @property
    def by_speed(self) -> bool:
        """Whether classes are ways of decoding rather than tasks."""
        return bool(self.scores) and self.scores[0].labels == "speed"


def speed_classes(tasks: Sequence[Assignment]) -> tuple[Assignment, ...]:
    """The distinct ways that tasks are decoded, and plain decoding; named for what they are."""
    ways: dict[tuple[str | None, int], list[Assignment]] = {}
    for each in tasks:
        ways.setdefault(_way(each), []).append(each)
    ways.setdefault((None, 0), [])
    classes = []
    for (draft, length), own in ways.items():
        curves = [each.curve for each in own if each.curve is not None]
        name = PLAINLY if draft is None else f"{draft}, k={length}"
        trials = tuple(trial for each in own for trial in each.trials)
        curve = mean_curve(curves) if curves else None
        classes.append(Assignment(name, draft, length, curve, trials))
    return tuple(classes)


def class_of(assignment: Assignment, classes: Sequence[Assignment]) -> int:
    """The class that decodes as an assignment does."""
    return [_way(each) for each in classes].index(_way(assignment))


def _way(assignment: Assignment) -> tuple[str | None, int]:
    return assignment.draft, assignment.draft_length


def write_routes(folder: Path, routes: Routes) -> None:
    """Write `route.json` into the route stage's folder."""
    write_json(folder / ROUTES, asdict(routes))


def read_routes(path: Path) -> Routes:
    """Read a `route.json`."""
    value = read_json(path)
    value["classes"] = tuple(read_assignment(each) for each in value["classes"])
    value["scores"] = tuple(RouteScore(**each) for each in value["scores"])
    return Routes(**value)


def load_routes(context: RunContext, assigned: Assigned) -> Routes:
    """What a run's router decides between: found by the route stage, or said by the recipe."""
    config = context.recipe.route
    if config.fixed_threshold is not None and not config.measures_speed:
        return Routes(assigned.tasks, config.fixed_threshold)
    return read_routes(context.stage_folders["route"] / ROUTES)


def run_router(context: RunContext, assigned: Assigned) -> PromptRouter:
    """The router of a run."""
    routes = load_routes(context, assigned)
    return load_prompt_router(
        context.stage_folders["route"],
        context.recipe.route,
        context.registry,
        routes.classes,
        assigned.fallback,
        routes.threshold,
    )
