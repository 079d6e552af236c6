"""The page: whole, safe to open, readable by everyone."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from taskspec.evaluation.statistics import Interval
from taskspec.evaluation.table import Lossless, Results, VerifierUsed
from taskspec.report.certificate import read_certificate
from taskspec.report.compare import compare
from taskspec.report.facts import RouterLabels, RunFacts, Task
from taskspec.report.page import mark, render_comparison, render_run
from taskspec.report.wording import bytes_text, duration, headline

VOID = {"meta", "br", "link", "img"}
EVIL = '<script>alert("1")</script>'


class Page(HTMLParser):
    """What a page holds; refuses tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of every element of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def pages(facts: RunFacts) -> list[Page]:
    """Both kinds of page."""
    return [Page(render_run(facts)), Page(render_comparison(compare(facts, facts)))]


def test_nothing_is_loaded_and_nothing_runs(facts: RunFacts) -> None:
    for html in (render_run(facts), render_comparison(compare(facts, facts))):
        page = Page(html)
        assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
        for _, attributes in page.tags:
            for name in ("src", "href", "xlink:href", "srcset"):
                assert (attributes.get(name) or "#").startswith("#")
            assert not any(name.startswith("on") for name in attributes)
        assert not re.search(r"@import|@font-face|url\(|https?://", html)
        assert "default-src 'none'" in html


def test_prompts_and_names_stay_text(facts: RunFacts) -> None:
    task = replace(facts.tasks[0], name=EVIL, terms=(EVIL,), examples=(EVIL,))
    prompt = replace(facts.prompts[0], text=f'"{EVIL}')
    dirty = replace(
        facts, name=EVIL, place=EVIL, recipe=EVIL, tasks=(task,), prompts=(prompt,), command=EVIL
    )
    for html in (render_run(dirty), render_comparison(compare(dirty, facts))):
        page = Page(html)
        assert page.all("script") == []
        assert EVIL in page.text


def test_headings_tables_and_landmarks_are_for_everyone(pages: list[Page]) -> None:
    for page in pages:
        levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h\d", tag)]
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip(levels, levels[1:], strict=False))
        assert page.all("html") == [{"lang": "en"}]
        assert len(page.all("main")) == len(page.all("header")) == len(page.all("footer")) == 1
        assert page.all("a")[0]["href"] == "#main"
        assert all(each.get("scope") in ("row", "col") for each in page.all("th"))
        assert len(page.all("caption")) == len(page.all("table")) > 0
        assert all(
            each.get("aria-hidden") == "true" or each.get("aria-labelledby")
            for each in page.all("svg")
        )
        identifiers = {each["id"] for _, each in page.tags if "id" in each}
        for _, attributes in page.tags:
            named = (attributes.get("aria-labelledby") or "").split()
            linked = (attributes.get("href") or "#main").removeprefix("#")
            assert {*named, linked} <= identifiers


def test_colours_can_be_read_in_both_schemes() -> None:
    from importlib.resources import files

    style = (files("taskspec.report") / "pages/style.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")
    for part in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", part))
        for name in ("ink", "soft", "accent", "bad", *(f"c{n}" for n in range(8))):
            for ground in ("paper", "wash"):
                assert contrast(colours[name], colours[ground]) >= 4.5, (name, ground)


def contrast(first: str, second: str) -> float:
    """The contrast ratio of WCAG."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dim, bright = sorted((luminance(first), luminance(second)))
    return (bright + 0.05) / (dim + 0.05)


def test_the_headline_says_no_more_than_was_measured(results: Results) -> None:
    same = "and all 20 greedy answers compared in float32 are the same"
    assert headline(results) == f"Answers come 1.50 times as fast, {same}."
    rows = tuple(replace(row, speedup_low=0.9) for row in results.rows)
    assert headline(replace(results, rows=rows)).startswith("No gain is shown")
    rows = tuple(replace(row, speedup=0.8, speedup_high=0.9, speedup_low=0.7) for row in rows)
    assert headline(replace(results, rows=rows)).startswith("Answers come slower")
    differing = replace(results, lossless=Lossless(20, 3, "float32"))
    assert "3 of 20 answers differ" in headline(differing)
    assert "not checked" in headline(replace(results, lossless=Lossless(0, 0, "float32")))
    lossy = replace(results, verifier=VerifierUsed("typical", False))
    assert "typical changes what is said" in headline(lossy)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "the fastest was chosen, or a smaller one that may be as fast."),
        ({"objective": "memory"}, "the smallest that keeps 95 % of the fastest one's was chosen."),
        ({"objective": "latency"}, "means over answers"),
        ({"max_memory": 60.0}, "All together had to fit in 60 MB."),
        ({"margin": 1.5}, "lies at or above 1.5× plain decoding"),
    ],
)
def test_how_drafts_were_chosen_is_what_the_recipe_asked(
    facts: RunFacts, changes: dict[str, object], said: str
) -> None:
    assign = {**facts.settings["assign"], **changes}
    text = Page(render_run(replace(facts, settings={**facts.settings, "assign": assign}))).text
    assert said in text


def test_an_interval_without_an_end_is_drawn_to_the_edge(facts: RunFacts) -> None:
    open_end = Interval(1.5, 0.0, math.inf)
    html = render_run(replace(facts, tasks=(replace(facts.tasks[0], measured=open_end),)))
    assert "0.00–∞" in Page(html).text and "inf" not in re.sub(r"[a-z]*inf[a-z]+", "", html)


def test_commands_can_be_copied_whatever_the_folder_is_called(facts: RunFacts) -> None:
    text = Page(render_run(replace(facts, place="my runs/x", certificate=None))).text
    assert "taskspec report 'my runs/x'" in text
    assert "--out 'my runs/x/bundle/certificate.json'" in text
    assert f"--corpus {facts.settings['corpus']['path']}" in text and "--seed" not in text
    seeded = replace(facts, settings={**facts.settings, "seed": 7}, certificate=None)
    assert "--seed 7" in Page(render_run(seeded)).text
    lossy = replace(facts.results, verifier=VerifierUsed("typical", False))
    assert "taskspec certify" not in render_run(replace(facts, results=lossy, certificate=None))


def test_what_a_run_lacks_is_said_to_be_absent(facts: RunFacts) -> None:
    stage = replace(facts.stages[0], resident=None)
    bare = replace(facts, routing=None, certificate=None, trainings=(), stages=(stage,))
    text = " ".join(Page(render_run(bare)).text.split())
    assert "does not say where each prompt went" in text
    assert "There is no certificate" in text
    assert "No training of this run left a curve" in text
    assert "does not say how much memory it took" in text


def test_a_certificate_is_shown(facts: RunFacts) -> None:
    certificate = read_certificate(
        {
            "bundle": "1f",
            "passed": True,
            "corpus": "my-prompts.jsonl",
            "prompts": ["a", "b"],
            "greedy": [
                {
                    "dtype": "float32",
                    "combinations": 1200,
                    "mismatches": [],
                    "ties": 0,
                    "widest_tie": 0.0,
                }
            ],
            "sampled": [],
            "faults": [
                {"fault": "off by one", "mismatches": 3, "answers": 9, "p_value": None},
            ],
            "verifier": {"name": "greedy", "rules": [{"rule": "r", "passed": True}]},
        }
    )
    text = Page(render_run(replace(facts, certificate=certificate))).text
    assert "Certified" in text and "1,200 prompts" in text
    assert "Answered were 2 prompts of my-prompts.jsonl." in text
    assert "off by one" in text and "caught" in text


def test_a_search_shows_what_it_tried_and_what_that_cost(facts: RunFacts) -> None:
    text = " ".join(Page(render_run(facts)).text.split())
    assert "trained on 4,000 answer tokens" in text and "takes 6,000" in text
    assert "✓ small1.10× → –3,000" in text and "outranked after round 1" in text
    assert "A search over the pool" not in Page(render_run(replace(facts, search=None))).text


def test_a_comparison_calls_faster_only_what_intervals_set_apart(facts: RunFacts) -> None:
    rows = tuple(
        replace(row, speedup=2.0, speedup_low=1.9, speedup_high=2.1)
        if (row.method, row.task) == ("routed", "all")
        else row
        for row in facts.results.rows
    )
    settings = {**facts.settings, "name": "other", "align": {"tokens": 20}}
    other = replace(facts, results=replace(facts.results, rows=rows), settings=settings)
    found = compare(facts, other)
    verdicts = {(each.method, each.task): each.verdict for each in found.speedups}
    assert verdicts == {
        ("plain", "all"): "undecided",
        ("routed", "a"): "undecided",
        ("routed", "b"): "undecided",
        ("routed", "all"): "faster in B",
    }
    assert [(c.what, c.first, c.second) for c in found.recipe] == [("align.tokens", "10", "20")]
    assert "faster in B" in Page(render_comparison(found)).text


def test_a_task_of_one_run_only_stands_in_the_comparison(facts: RunFacts) -> None:
    new = Task(2, "only-here", (), 1, 0, None, (), None, 0, (), None)
    found = compare(facts, replace(facts, tasks=(*facts.tasks, new)))
    change = next(each for each in found.tasks if each.what == "only-here")
    assert change.first is None and change.second == "1 prompts → plain decoding"


def test_marks_of_64_tasks_differ() -> None:
    assert len({tuple(mark(label).values()) for label in range(64)}) == 64


def test_sizes_and_times_are_for_people() -> None:
    assert [bytes_text(n) for n in (12, 3_400, 5_600_000)] == ["12 B", "3.4 kB", "5.6 MB"]
    assert bytes_text(999_600_000) == "1 GB"
    assert [duration(s) for s in (1.25, 75, 150, 7260)] == [
        *("1.2 s", "75 s", "2 min 30 s", "2 h 01 min")
    ]


def test_the_page_says_what_the_router_learnt_and_what_it_loses(facts: RunFacts) -> None:
    text = " ".join(Page(render_run(facts)).text.split())
    assert "learnt which way of decoding is fastest for a prompt" in text
    assert "below a probability of 0.42 the fallback decodes" in text
    assert "On 40 validation prompts" in text and "loses 2.1 % by speed, 9.0 %" in text
    by_task = replace(facts, labels=RouterLabels("task", 1.0))
    text = " ".join(Page(render_run(by_task)).text.split())
    assert "learnt which task a prompt belongs to; it always abstains" in text


def test_the_page_says_what_drafts_cannot_shorten(facts: RunFacts) -> None:
    said = "are 12.5 % of plain decoding's time; after them the speed-up is"
    assert said in " ".join(Page(render_run(facts)).text.split())
    earlier = replace(facts, results=replace(facts.results, prompt_share=None))
    assert "of plain decoding's time" not in Page(render_run(earlier)).text
