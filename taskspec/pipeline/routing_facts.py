"""How prompts are routed, as a run's report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from taskspec.evaluation.routing import (
    RoutedPrompt,
    calibration,
    calibration_error,
    confusion,
    from_json,
)
from taskspec.pipeline.partition import Tasks
from taskspec.pipeline.route import ROUTING
from taskspec.pipeline.routes import ROUTES, Routes, read_routes
from taskspec.pipeline.run_folder import RunFolder
from taskspec.report.facts import RouterLabels, Routing


def routed_prompts(run: RunFolder, stage: str) -> list[RoutedPrompt]:
    """Where a stage's router sent prompts; none where it did not say."""
    text = run.text(stage, ROUTING)
    return [] if text is None else from_json(text)


def found_routes(run: RunFolder) -> Routes | None:
    """What the route stage found; None where the recipe says it all."""
    if ROUTES not in run.done["route"].files:
        return None
    return read_routes(run.file("route", ROUTES))


def labels_shown(settings: Mapping[str, Any], routes: Routes | None) -> RouterLabels:
    """What the router learnt, by the recipe's values and what the route stage found."""
    if routes is None:
        return RouterLabels("task", float(settings["route"]["threshold"]))
    regrets = [(f"by {each.labels}", each.regret) for each in routes.scores]
    if routes.fallback_regret is not None:
        regrets.append(("with the fallback alone", routes.fallback_regret))
    return RouterLabels(routes.scores[0].labels, routes.threshold, routes.prompts, tuple(regrets))


def routing_shown(
    run: RunFolder,
    held_out: Sequence[RoutedPrompt],
    found: Tasks,
    routes: Routes | None,
    threshold: float,
) -> Routing | None:
    """On held-out prompts whose task is known, else on validation prompts.

    Of a router that learnt what is fastest, on validation prompts: it knows no tasks. What the
    route stage wrote of these is the likeliest class of each, to which the threshold comes here.
    """
    source = "held-out prompts, beside their known tasks"
    prompts, names = list(held_out), list(found.names)
    if routes is not None and routes.by_speed:
        source = "validation prompts, beside the way of decoding that is fastest for each"
        prompts, names = _decided(run, threshold), [each.task for each in routes.classes]
    elif not any(each.task is not None for each in prompts):
        source = "validation prompts, beside the tasks that the partition put them in"
        prompts = _decided(run, threshold)
    counted = confusion(prompts, names)
    if counted is None:
        return None
    bins = calibration(prompts)
    return Routing(source, counted, bins, calibration_error(bins))


def _decided(run: RunFolder, threshold: float) -> list[RoutedPrompt]:
    """The route stage's validation prompts, those below the threshold as left to the fallback."""
    return [
        each
        if threshold < 1 and each.probability >= threshold
        else replace(each, routed=None, right=None)
        for each in routed_prompts(run, "route")
    ]
