"""results.json and the printed tables."""

from __future__ import annotations

import io
import json
from dataclasses import replace

from rich.console import Console

from taskspec.evaluation.table import (
    Clustering,
    Lossless,
    ResultRow,
    Results,
    RouterScore,
    TaskReport,
    VerifierUsed,
    figures_table,
    from_json,
    render,
    to_json,
)

ROUTED = ResultRow("routed", "all", 31.25, 1.875, 1.75, 2.125, 2.5, 0.625, 0.71, 4, 12, 960)
PLAIN = ResultRow("plain", "all", 16.5, 1.0, 1.0, 1.0, 1.0, None, None, None, 12, 960)
ON_CODE = replace(ROUTED, task="code", speedup=2.25, draft_length=3)
RESULTS = Results(
    rows=(PLAIN, ROUTED, ON_CODE),
    lossless=Lossless(12, 0, "float32"),
    clustering=Clustering(0.97, 0.93, 3),
    router=RouterScore(0.96, 0.98, 0.41, 0.02),
    verifier=VerifierUsed("greedy", True),
    tasks=(TaskReport("code", ("python-write",), ("small@task-0",), 0.01, 0.0),),
    speed_regret=0.03,
    speedup_without_looping=1.8125,
    prompt_share=0.125,
    speedup_after_prompts=2.0625,
    environment={"torch": "2.6", "threads": 2, "gpu": None},
)
ROW_KEYS = {
    "method",
    "task",
    "tokens_per_second",
    "speedup",
    "speedup_low",
    "speedup_high",
    "block_efficiency",
    "acceptance_rate",
    "draft_accuracy",
    "draft_length",
    "prompts",
    "tokens",
}


def printed(results: Results, width: int = 160) -> str:
    output = io.StringIO()
    render(results, Console(file=output, width=width))
    return output.getvalue()


def test_results_survive_json() -> None:
    assert from_json(to_json(RESULTS)) == RESULTS
    unlabelled = replace(
        RESULTS,
        clustering=Clustering(None, None, 3),
        router=RouterScore(None, None, 0.41, 0.0),
        speed_regret=None,
    )
    assert from_json(to_json(unlabelled)) == unlabelled


def test_a_tasks_name_is_printed_as_it_is() -> None:
    named = replace(RESULTS.tasks[0], task="[b]code")
    rows = (PLAIN, ROUTED, replace(ON_CODE, task="[b]code"))
    assert "[b]code" in printed(replace(RESULTS, rows=rows, tasks=(named,)))


def test_results_of_earlier_versions_say_nothing_of_prompts_passes() -> None:
    value = json.loads(to_json(RESULTS))
    del value["prompt_share"], value["speedup_after_prompts"]
    assert "prompts    12.5% of plain decoding's time; after them routed 2.06x" in printed(RESULTS)
    assert "after them routed" not in printed(from_json(json.dumps(value)))


def test_json_has_every_promised_key() -> None:
    value = json.loads(to_json(RESULTS))
    assert value.keys() >= {"rows", "lossless", "clustering", "router", "environment"}
    assert all(row.keys() >= ROW_KEYS for row in value["rows"])
    assert value["lossless"] == {"checked": 12, "mismatches": 0, "dtype": "float32"}
    assert value["clustering"] == {"accuracy": 0.97, "ari": 0.93, "clusters": 3}
    assert value["router"].keys() >= {"accuracy", "latency_ms"}
    assert value["environment"] == {"torch": "2.6", "threads": 2, "gpu": None}
    assert value["rows"][0]["draft_accuracy"] is None


def test_a_row_is_found_by_method_and_task() -> None:
    assert RESULTS.row("routed") == ROUTED
    assert RESULTS.row("routed", "code") == ON_CODE
    assert RESULTS.row("oracle") is None


def test_the_tables_show_methods_over_all_and_routed_tasks() -> None:
    lines = printed(RESULTS).splitlines()
    (routed,) = (line for line in lines if line.startswith("routed "))
    for cell in ("31.2", "1.88x", "1.75-2.12", "2.50", "0.62", "0.71", "4"):
        assert cell in routed
    (code,) = (line for line in lines if line.startswith("code "))
    assert "small@task-0" in code
    assert "2.25x" in code
    (plain,) = (line for line in lines if line.startswith("plain "))
    assert plain.count(" - ") == 3


def test_a_narrow_terminal_shows_every_figure_and_draft_whole() -> None:
    (code,) = (line for line in printed(RESULTS, 80).splitlines() if line.startswith("code "))
    assert code.split() == [
        *("code", "2.25x", "(1.75-2.12)", "2.50", "0.62", "0.71", "3", "small@task-0"),
    ]


def test_what_the_base_draft_guesses_stands_beside_where_there_is_one() -> None:
    (routed,) = (row for row in RESULTS.rows if (row.method, row.task) == ("routed", "code"))
    vanilla = replace(routed, method="vanilla", draft_accuracy=0.33)
    shown = printed(replace(RESULTS, rows=(*RESULTS.rows, vanilla)), 80)
    (code,) = (line for line in shown.splitlines() if line.startswith("code "))
    assert code.split()[-2:] == ["0.33", "small@task-0"]
    assert "vanilla" not in printed(RESULTS, 80)


def test_the_checks_are_printed_in_words() -> None:
    text = printed(RESULTS)
    assert "12 held-out prompts" in text
    assert "in float32: identical" in text
    assert "3 found, clustering accuracy 97.0%" in text
    assert "0.41 ms per prompt, accuracy 96.0%, speed regret 3.0%" in text


def test_what_was_not_checked_is_not_called_identical() -> None:
    text = printed(replace(RESULTS, lossless=Lossless(0, 0, "float32")))
    assert "lossless   not checked" in text and "identical" not in text


def test_headings_and_titles_are_printed_as_they_are() -> None:
    output = io.StringIO()
    table = figures_table("task", "[/INST]", "[code]", title="runs/[b]x")
    Console(file=output, width=80).print(table)
    for name in ("[/INST]", "[code]", "runs/[b]x"):
        assert name in output.getvalue()


def test_differing_answers_stand_out() -> None:
    assert "2 DIFFER" in printed(replace(RESULTS, lossless=Lossless(12, 2, "bfloat16")))


def test_a_verifier_that_changes_answers_is_named_before_and_after_the_figures() -> None:
    lines = printed(replace(RESULTS, verifier=VerifierUsed("typical", False))).splitlines()
    told = [number for number, line in enumerate(lines) if line.startswith("NOT LOSSLESS")]
    assert told == [0, len(lines) - 1] and "'typical'" in lines[0]
    assert "NOT LOSSLESS" not in printed(RESULTS)


def test_what_needs_labels_is_left_out_without_them() -> None:
    unlabelled = replace(
        RESULTS, clustering=Clustering(None, None, 3), router=RouterScore(None, None, 0.41, 0.0)
    )
    text = printed(unlabelled)
    assert "clustering accuracy" not in text and "ms per prompt, accuracy" not in text
