"""Routing learnt from speed: labels, threshold, and what the router's choices lose."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from taskspec.corpus.examples import Example
from taskspec.evaluation.route_speed import (
    AS_FAST,
    best_threshold,
    fastest_ways,
    regret,
    routed_seconds,
    task_means,
    without_chance,
)
from taskspec.evaluation.routing import RoutedPrompt
from taskspec.interfaces import Encoder, Router
from taskspec.pipeline.assign import Assigned, load_assignment
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.partition import Tasks, validation_by_task
from taskspec.pipeline.prompt_speed import prompt_seconds
from taskspec.pipeline.routes import Routes, RouteScore, class_of, speed_classes
from taskspec.recipe.assignment import RouteConfig
from taskspec.serving.routing import Assignment, PromptRouter, Route

Fit = Callable[[Sequence[Example], Sequence[int]], Router]
"""Makes a router of prompts and their labels."""


@dataclass(frozen=True)
class Learnt:
    """A router, and what it decides between.

    Attributes:
        router: Fitted.
        routes: Its classes, its threshold, its score.
        prompts: Validation prompts beside the way that is fastest for each; with labels by task
            none.
    """

    router: Router
    routes: Routes
    prompts: tuple[RoutedPrompt, ...]


def learn_by_speed(
    context: RunContext, tasks: Tasks, train: Sequence[Example], encoder: Encoder, fit: Fit
) -> Learnt:
    """Fit the router that the recipe names, by predicted seconds of single prompts.

    Where labels are by speed, half of the validation prompts are measured and labelled with what
    is fastest for each, and training prompts with what is fastest for their task's measured ones:
    drafts may have training prompts' very answers, and would seem to guess them. On the other half
    such a router and one by task are scored; where labels are by task, on all.

    Args:
        context: A run whose drafts are assigned.
        tasks: The tasks found.
        train: Training prompts.
        encoder: Fitted encoder of prompts.
        fit: Makes the router.
    """
    config = context.recipe.route
    assigned = load_assignment(context.stage_folders["assign"])
    ways = speed_classes(assigned.tasks)
    by_speed = config.labels == "speed"
    drawn = _drawn(validation_by_task(context, tasks), config.speed_prompts, context.recipe.seed)
    few = [each for own in drawn for each in own[::2]] if by_speed else []
    # A single prompt of a task has to do both.
    held = [each for own in drawn for each in (own[1::2] or own if by_speed else own)]
    timed = prompt_seconds(context, [*few, *held], (*ways, assigned.fallback))
    judge = _Judge(held, timed.seconds[len(few) :], ways, assigned, encoder, config)

    router = fit(train, [tasks.labels[each.id] for each in train])
    score = judge.score("task", router, assigned.tasks)
    if not by_speed:
        return Learnt(router, judge.routes(assigned.tasks, [score]), ())
    places = slice(len(few)), slice(len(ways))
    known = timed.per_token[places], timed.halves[:, *places]
    every, labels = _labels_by_speed(few, train, *known, tasks, assigned, ways)
    # A router's classes are counted up from 0, without gaps.
    used = np.unique(labels)
    classes = tuple(ways[int(way)] for way in used)
    router = fit(every, np.searchsorted(used, labels).tolist())
    own_score = judge.score("speed", router, classes)
    beside = judge.beside_fastest(router, classes, _usual(held, tasks, assigned, ways))
    return Learnt(router, judge.routes(classes, [own_score, score]), tuple(beside))


def _labels_by_speed(
    measured: Sequence[Example],
    train: Sequence[Example],
    seconds: NDArray[np.float64],
    halves: NDArray[np.float64],
    tasks: Tasks,
    assigned: Assigned,
    ways: Sequence[Assignment],
) -> tuple[list[Example], NDArray[np.int64]]:
    """Prompts to learn from, those measured first, and the fastest way of each, int64 [N].

    Of training prompts, the mean of their task's measured ones is what is known; where their task
    has none, its own way.
    """
    own = _tasks_of(measured, tasks)
    others = [each for each in train if tasks.labels[each.id] in own]
    unknown = [each for each in train if tasks.labels[each.id] not in own]
    expected = without_chance(seconds, halves, own)
    means = task_means(expected, own, _tasks_of(others, tasks))
    known = [*measured, *others]
    fastest = fastest_ways(np.concatenate([expected, means]), _usual(known, tasks, assigned, ways))
    return [*known, *unknown], np.concatenate([fastest, _usual(unknown, tasks, assigned, ways)])


def _tasks_of(prompts: Sequence[Example], tasks: Tasks) -> NDArray[np.int64]:
    return np.array([tasks.labels[each.id] for each in prompts], dtype=np.int64)


class _Judge:
    """Scores routers on validation prompts.

    Args:
        prompts: N validation prompts.
        seconds: float64 [N, W + 1], predicted, in each way and with the fallback.
        ways: W ways of decoding.
        assigned: Says what the fallback is.
        encoder: Fitted encoder of prompts.
        config: The recipe's `route`.
    """

    def __init__(
        self,
        prompts: Sequence[Example],
        seconds: NDArray[np.float64],
        ways: Sequence[Assignment],
        assigned: Assigned,
        encoder: Encoder,
        config: RouteConfig,
    ) -> None:
        self.prompts, self.seconds, self.config = prompts, seconds, config
        self.ways = (*ways, assigned.fallback)
        self.encoder, self.fallback = encoder, assigned.fallback
        self.oracle: NDArray[np.float64] = seconds.min(axis=1)

    def routes(self, classes: Sequence[Assignment], scores: Sequence[RouteScore]) -> Routes:
        """The routes of the router whose score is the first."""
        alone = regret(self.seconds[:, -1], self.oracle)
        threshold = scores[0].threshold
        return Routes(tuple(classes), threshold, len(self.prompts), tuple(scores), alone)

    def score(self, labels: str, router: Router, classes: Sequence[Assignment]) -> RouteScore:
        """What a router loses at the recipe's threshold, or at the best one."""
        routes = self._ask(router, classes)
        probabilities = np.array([route.probability for route in routes], dtype=np.float64)
        chosen, fallback = self._chosen(routes), self.seconds[:, -1]
        threshold = self.config.fixed_threshold
        if threshold is None:
            threshold = best_threshold(probabilities, chosen, fallback)
        routed = routed_seconds(probabilities, chosen, fallback, threshold)
        return RouteScore(labels, threshold, regret(routed, self.oracle))

    def beside_fastest(
        self, router: Router, classes: Sequence[Assignment], usual: NDArray[np.int64]
    ) -> list[RoutedPrompt]:
        """The router's likeliest way of each prompt, and the fastest; right if about as fast."""
        routes = self._ask(router, classes)
        chosen = self._chosen(routes)
        fastest = fastest_ways(self.seconds[:, :-1], usual)
        least = np.take_along_axis(self.seconds, fastest[:, None], axis=1)[:, 0]
        return [
            RoutedPrompt(
                example.id,
                self.ways[int(way)].task,
                None if route.label is None else route.assignment.task,
                None if route.label is None else bool(AS_FAST * own <= best),
                route.probability,
            )
            for example, route, way, own, best in zip(
                self.prompts, routes, fastest, chosen, least, strict=True
            )
        ]

    def _ask(self, router: Router, classes: Sequence[Assignment]) -> list[Route]:
        asked = PromptRouter(self.encoder, router, classes, self.fallback, threshold=0.0)
        return [asked.route(each.prompt_text) for each in self.prompts]

    def _chosen(self, routes: Sequence[Route]) -> NDArray[np.float64]:
        """Seconds of each prompt as routed; those of the fallback where the router cannot know."""
        columns = [class_of(route.assignment, self.ways) for route in routes]
        return self.seconds[np.arange(len(columns)), columns]


def _drawn(own: dict[int, list[Example]], count: int, seed: int) -> list[list[Example]]:
    """At most so many prompts of every task, drawn with the seed, in an order of chance."""
    return [
        random.Random(seed).sample(prompts, min(count, len(prompts))) for prompts in own.values()
    ]


def _usual(
    prompts: Sequence[Example], tasks: Tasks, assigned: Assigned, ways: Sequence[Assignment]
) -> NDArray[np.int64]:
    """The way of each prompt's task, int64 [N]."""
    return np.array(
        [class_of(assigned.tasks[tasks.labels[each.id]], ways) for each in prompts],
        dtype=np.int64,
    )
