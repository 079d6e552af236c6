"""What a run's drafts could bring at most, with perfect stops and the best draft at every step.

    taskspec run quickstart
    python benchmarks/bounds.py runs/quickstart

Every draft that competed for a task proposes at every position of the target's own answers to the
task's validation prompts, greedily. The cost model, with the costs that the run was assigned by,
then says what these answers take, over plain decoding: by the assigned draft at its length; if each
step of it knew how many of its tokens will stand; and if each step knew that of every draft and
took the best. The last two leave drafting's cost out and choose the steps of a whole answer
together, so no rule for lengths, no router and no correction over these drafts can do better.
Prefills are left out. Prints Markdown.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.records import DraftChoice
from taskspec.interfaces import Drafter, Sampling
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.assign import Costs, load_assignment, load_costs
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.entries import all_entries, general_entries, task_entries
from taskspec.pipeline.partition import load_tasks, validation_by_task
from taskspec.pipeline.subject import open_run
from taskspec.registry import default_registry
from taskspec.serving.pool import Pool, load_pool, with_members
from taskspec.serving.routing import Assignment


@dataclass(frozen=True)
class Guesses:
    """What a draft proposes at every position of an answer.

    Attributes:
        drafted: Tokens proposed.
        standing: How many of them the answer goes on with.
    """

    drafted: tuple[int, ...]
    standing: tuple[int, ...]


def step_cost(costs: Costs, drafted: int) -> float:
    """A step that checks so many tokens, in target passes over one; drafting left out."""
    return costs.target.verify_ratio(drafted + 1) + costs.overhead


def guesses(drafter: Drafter, choice: DraftChoice, answer: StoredAnswer, most: int) -> Guesses:
    """Let a draft propose after the prompt and each token of the answer but the last."""
    tokens = answer.answer_ids[:most]
    drafter.start(0, answer.prompt_ids, Sampling(), None, choice.adapter)
    noise = torch.zeros(1, choice.draft_length)
    drafted, standing = [], []
    for index, token in enumerate(tokens[:-1]):
        drafter.commit([0], torch.tensor([[token]]), torch.tensor([1]), None)
        proposal = drafter.propose([0], [choice.draft_length], noise)
        found = proposal.tokens[0, : int(proposal.lengths[0])].tolist()
        rest = tokens[index + 1 :]
        differs = (n for n, (a, b) in enumerate(zip(found, rest, strict=False)) if a != b)
        drafted.append(len(found))
        standing.append(next(differs, min(len(found), len(rest))))
    drafter.stop(0)
    return Guesses(tuple(drafted), tuple(standing))


def assigned_cost(own: Guesses, length: int, draft_seconds: float, costs: Costs) -> float:
    """An answer's steps by a draft at one length."""
    c, cost, at = draft_seconds / costs.target.seconds[0], 0.0, 0
    while at < len(own.drafted):
        drafted = min(own.drafted[at], length)
        attempts = min(own.drafted[at] + 1, length)
        cost += attempts * c + step_cost(costs, drafted)
        at += min(own.standing[at], length) + 1
    return cost


def least_cost(drafts: Sequence[Guesses], costs: Costs) -> float:
    """The cheapest steps of an answer if each knew what of every draft will stand."""
    tokens = len(drafts[0].standing)
    least = [0.0] * (tokens + 1)
    for at in reversed(range(tokens)):
        most = max(each.standing[at] for each in drafts)
        least[at] = min(
            step_cost(costs, n) + least[min(at + n + 1, tokens)] for n in range(most + 1)
        )
    return least[0]


def bounds(
    context: RunContext,
    pool: Pool,
    costs: Costs,
    assigned: Assignment,
    label: int,
    answers: Sequence[StoredAnswer],
) -> tuple[float, float, float, float]:
    """Costs of a task's answers: plain, as assigned, stopped as well as can be, chosen, too."""
    longest = len(costs.target.seconds) - 1
    competing = {each.name for each in (*task_entries(context, label), *general_entries(context))}
    most = context.recipe.assign.max_new_tokens
    total = [0.0] * 4
    for answer in answers:
        made: Mapping[str, Guesses] = {
            name: guesses(pool.drafters[choice.draft], choice, answer, most)
            for name in competing
            if (choice := pool.choice(name, longest)) is not None
        }
        plain = step_cost(costs, 0) * (len(answer.answer_ids[:most]) - 1)
        total[0] += plain
        if assigned.draft is None:
            total[1] += plain
            total[2] += plain
        else:
            own, seconds = made[assigned.draft], costs.draft_seconds[assigned.draft]
            total[1] += assigned_cost(own, assigned.draft_length, seconds, costs)
            total[2] += least_cost([own], costs)
        total[3] += least_cost(list(made.values()), costs)
    return total[0], total[1], total[2], total[3]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    context = open_run(parser.parse_args().run, default_registry(), Console(stderr=True))
    tasks = load_tasks(context.stage_folders["partition"])
    stored = load_answers(context.stage_folders["collect"])
    known = all_entries(context, len(tasks.names))
    pool = load_pool(with_members(known, known), context.registry, context.target)
    folder = context.stage_folders["assign"]
    costs, assigned = load_costs(folder), load_assignment(folder).tasks
    print("| task | as assigned | best stops | best draft, best stops |\n|---|---|---|---|")
    whole = [0.0] * 4
    for label, held in validation_by_task(context, tasks).items():
        answers = [stored[each.id] for each in held]
        own = bounds(context, pool, costs, assigned[label], label, answers)
        whole = [a + b for a, b in zip(whole, own, strict=True)]
        print_row(tasks.names[label], own)
    print_row("all", whole)


def print_row(name: str, costs: Sequence[float]) -> None:
    """Speed-ups over plain decoding."""
    print(f"| {name} | " + " | ".join(f"{costs[0] / each:.2f}x" for each in costs[1:]) + " |")


if __name__ == "__main__":
    with torch.inference_mode():
        main()
