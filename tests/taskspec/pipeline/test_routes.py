"""The ways that a router which learnt speed decides between."""

from __future__ import annotations

from pathlib import Path

from taskspec.decoding.cost import AcceptanceCurve
from taskspec.pipeline.routes import (
    ROUTES,
    Routes,
    RouteScore,
    class_of,
    read_routes,
    speed_classes,
    write_routes,
)
from taskspec.serving.routing import Assignment


def curve(tau: float) -> AcceptanceCurve:
    return AcceptanceCurve((tau,), (0.0, 1.0))


TASKS = (
    Assignment("code", "small@single", 3, curve(1.5)),
    Assignment("math", "small@task-1", 3, curve(1.8)),
    Assignment("sql", "small@single", 3, curve(1.7)),
    Assignment("mail", "small@single", 2, curve(1.5)),
)


def test_tasks_that_decode_alike_are_one_class_and_plain_decoding_is_one() -> None:
    classes = speed_classes(TASKS)
    assert [each.task for each in classes] == [
        *("small@single, k=3", "small@task-1, k=3", "small@single, k=2", "plain decoding"),
    ]
    assert classes[0].curve is not None and classes[0].curve.block_efficiency == (1.6,)
    assert [class_of(task, classes) for task in TASKS] == [0, 1, 0, 2]
    assert class_of(Assignment("fallback", None, 0), classes) == 3


def test_a_task_that_is_decoded_plainly_adds_no_second_class() -> None:
    assert len(speed_classes([Assignment("mail", None, 0), TASKS[0]])) == 2


def test_routes_survive_their_file(tmp_path: Path) -> None:
    scores = (RouteScore("speed", 0.25, 0.02), RouteScore("task", 0.0, 0.05))
    routes = Routes(speed_classes(TASKS), 0.25, 12, scores, 0.1)
    write_routes(tmp_path, routes)
    assert read_routes(tmp_path / ROUTES) == routes
    assert routes.by_speed and not Routes(TASKS, 0.5).by_speed
