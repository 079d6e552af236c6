"""Each mistake in a recipe is answered with one message that names its line."""

import pytest

# Each line of MINIMAL has its number: name 1, target 2, corpus 3, draft 4, pool 5, small 6.
WRONG = {
    "misspelled key": ("sed: 1", "my.yaml:7 sed: no such key. Did you mean 'seed'?"),
    "misspelled nested key": (
        "align:\n  tokns: 10",
        "my.yaml:8 align.tokns: no such key. Did you mean 'tokens'?",
    ),
    "option beside its plugin": (
        "partition: {use: kmeans, clusters: 5}",
        "my.yaml:7 partition.clusters: no such key. Options of the plugin go under `options`.",
    ),
    "text for a number": (
        "align: {tokens: many}",
        "my.yaml:7 align.tokens: expected a whole number, found 'many'",
    ),
    "fraction for a whole number": (
        "seed: 1.5",
        "my.yaml:7 seed: expected a whole number, found 1.5",
    ),
    "truth for a number": ("seed: true", "my.yaml:7 seed: expected a whole number, found true"),
    "truth for text": (
        "runs: on",
        "my.yaml:7 runs: expected text, found true; put it in quotes",
    ),
    "null for a number": ("seed:", "my.yaml:7 seed: expected a whole number, found null"),
    "number for a list": (
        "assign: {draft_lengths: 3}",
        "my.yaml:7 assign.draft_lengths: expected a list of whole numbers, found 3",
    ),
    "value for a section": (
        "collect: 5",
        "my.yaml:7 collect: expected keys and values, found 5",
    ),
    "text for an optional number": (
        "threads: all",
        "my.yaml:7 threads: expected a whole number or null, found 'all'",
    ),
    "interpolation": (
        "seed: ${oc.env:SEED}",
        "my.yaml:7 seed: ${...} is not filled in here; write the value itself",
    ),
    "out of range": (
        "route:\n  threshold: 1.5",
        "my.yaml:8 route.threshold: threshold must be between 0 and 1, not 1.5",
    ),
    "word where a number may stand": (
        "route:\n  threshold: soon",
        "my.yaml:8 route.threshold: threshold must be a number or auto, not 'soon'",
    ),
    "switch where a number may stand": (
        "route:\n  threshold: true",
        "my.yaml:8 route.threshold: expected a number or text, found true",
    ),
    "not a number": (
        "decode: {temperature: .nan}",
        "my.yaml:7 decode.temperature: temperature must be finite, not nan",
    ),
    "address that is none": (
        "collect:\n  signal: none\n  endpoint: {url: localhost}",
        "my.yaml:9 collect.endpoint.url: url must begin with http:// or https://, not 'localhost'",
    ),
    "endpoint out of range": (
        "collect: {endpoint: {max_failed: 1}}",
        "my.yaml:7 collect.endpoint.max_failed: max_failed must be at least 0 and below 1, not 1",
    ),
    "endpoint that is only an address": (
        "collect: {endpoint: http://here/v1}",
        "my.yaml:7 collect.endpoint: expected keys and values, found 'http://here/v1'",
    ),
    "signal that no endpoint gives": (
        "collect:\n  signal: states\n  endpoint: {url: http://here/v1}",
        "my.yaml:8 collect.signal: signal must be none with an endpoint",
    ),
    "none of the choices": (
        "partition: {noise: keep}",
        "my.yaml:7 partition.noise: noise must be one of nearest, drop, not 'keep'",
    ),
    "unknown plugin": (
        "partition:\n  use: kmean",
        "my.yaml:8 partition.use: no partitioner named 'kmean'. Did you mean 'kmeans'? "
        "Installed: hdbscan, kmeans.",
    ),
    "unknown plugin, written short": (
        "partition: kmean",
        "my.yaml:7 partition.use: no partitioner named 'kmean'. Did you mean 'kmeans'?",
    ),
    "unknown encoder": ("encode: tfid", "my.yaml:7 encode.use: no encoder named 'tfid'."),
    "unknown aligner": ("align: kdd", "my.yaml:7 align.use: no aligner named 'kdd'."),
    "unknown aligner of a draft": (
        "align: {drafts: {small: kdd}}",
        "my.yaml:7 align.drafts.small.use: no aligner named 'kdd'.",
    ),
    "aligner of a draft that is not there": (
        "align: {drafts: {smal: kd}}",
        "my.yaml:7 align.drafts.smal: the pool has no draft 'smal'; it has: ",
    ),
    "unknown recovery": (
        "align: {recovery: kdd}",
        "my.yaml:7 align.recovery.use: no aligner named 'kdd'.",
    ),
    "unknown router": ("route: logistik", "my.yaml:7 route.use: no router named 'logistik'."),
    "unknown encoder of the router": (
        "route: {encoder: tfid}",
        "my.yaml:7 route.encoder.use: no encoder named 'tfid'.",
    ),
    "unknown verifier": (
        "decode: {verifier: gredy}",
        "my.yaml:7 decode.verifier.use: no verifier named 'gredy'. Did you mean 'greedy'?",
    ),
    "unknown drafter": (
        "    other: cutt",
        "my.yaml:7 draft.pool.other.use: no drafter named 'cutt'. Did you mean 'cut'?",
    ),
    "options that are no keys": (
        "    other: {use: cut, options: 5}",
        "my.yaml:7 draft.pool.other.options: expected keys and values, found 5",
    ),
    "draft without a plugin": (
        "    other: {options: {}}",
        "my.yaml:7 draft.pool.other.use: is required but not set",
    ),
    "draft with an unusable name": (
        "    a/b: lookup",
        "my.yaml:7 draft.pool.a/b: name drafts with letters, digits, - and _ only",
    ),
    "unknown option": (
        "partition:\n  options:\n    cluster: 3",
        "my.yaml:9 partition.options.cluster: 'kmeans' has no such option. "
        "Did you mean 'clusters'? Options: clusters, least, most.",
    ),
    "option of the wrong type": (
        "partition: {options: {clusters: few}}",
        "my.yaml:7 partition.options.clusters: expected a whole number, found 'few'",
    ),
    "option out of range": (
        "partition: {options: {clusters: 0}}",
        "my.yaml:7 partition.options.clusters: clusters must be at least 1, not 0",
    ),
    "options that do not fit each other": (
        "partition: {options: {least: 9, most: 8}}",
        "my.yaml:7 partition.options: a task's most prompts are fewer than its least",
    ),
    "required option left out": (
        "    other: cut",
        "my.yaml:7 draft.pool.other.options.layers: is required but not set",
    ),
    "verifier that cannot sample": (
        "decode:\n  verifier: greedy\n  temperature: 0.7",
        "my.yaml:9 decode.temperature: the verifier 'greedy' is right for temperature 0 only; "
        "set temperature to 0, or decode.verifier to one that samples: rejection",
    ),
    "memory that no draft has": (
        "decode: {remember: 1000}",
        "my.yaml:7 decode.remember: no draft of the pool remembers answers; set it to 0, or add "
        "one that does: none is installed",
    ),
    "experience of a correction that is off": (
        "decode: {correction: {experience: true}}",
        "my.yaml:7 decode.correction.experience: experience is what correction begins from, and "
        "that is off; set use to true, or leave experience out",
    ),
    "recovery by adapters": (
        "align:\n  recovery: lora-kd",
        "my.yaml:8 align.recovery.use: 'lora-kd' trains adapters, but a draft cut from the "
        "target must learn as a whole; use one that does: kd",
    ),
    "average of weights in pieces": (
        "align:\n  ema: 0.99\n  trainer: {strategy: fsdp}",
        "my.yaml:8 align.ema: ema averages whole weights, which trainer.strategy: fsdp has in "
        "pieces; set ema to 0, or the strategy to ddp",
    ),
    "key given twice": ("name: other", "my.yaml:7 name: stands on line 1 too; keep one"),
    "broken YAML": ("seed: [1", "my.yaml:8 recipe: not valid YAML: "),
    "tab as indentation": ("align:\n\ttokens: 1", "my.yaml:8 recipe: not valid YAML: "),
    "control character": (
        "seed: \x07",
        "my.yaml:7 recipe: not valid YAML: the character U+0007 is not allowed",
    ),
    "alias inside itself": (
        "encode: &x {options: *x}",
        "my.yaml:7 recipe: not valid YAML: an alias stands inside what it stands for",
    ),
    "list as a key": ("[1, 2]: 3", "my.yaml:7 recipe: not valid YAML: found unhashable key"),
}


@pytest.mark.parametrize(("added", "message"), WRONG.values(), ids=WRONG)
def test_each_mistake_has_one_message_with_its_line(problems, minimal, added, message):
    found = problems(f"{minimal}{added}\n")
    assert len(found) == 1
    assert found[0].startswith(message)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ("name: trial\n", "my.yaml name: is required but not set"),
        ("{model: some/model}", "my.yaml:2 target.model: is required but not set"),
        ("target: {model: some/model}\n", "my.yaml target.model: is required but not set"),
        (
            "draft:\n  pool:\n    small: {use: cut, options: {layers: 2}}\n",
            "my.yaml draft.pool: pool must name at least one draft",
        ),
        (
            "    small: {use: cut, options: {layers: 2}}\n",
            "my.yaml:5 draft.pool: expected named entries, found null",
        ),
    ],
)
def test_what_is_left_out_is_named(problems, minimal, removed, message):
    assert problems(minimal.replace(removed, "")) == [message]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "my.yaml recipe: the file is empty; `taskspec copy quickstart` writes"),
        (b"- a\n- b\n", "my.yaml recipe: the file holds no keys;"),
        (b"name: a\nruns: \xe9\n", "my.yaml:2 recipe: not UTF-8 text; save the file as UTF-8"),
        (b"name: a\n---\nname: b\n", "my.yaml:2 recipe: not valid YAML: "),
    ],
)
def test_files_that_are_no_recipe(problems, content, message):
    found = problems(content)
    assert len(found) == 1
    assert found[0].startswith(message)


def test_missing_prompts_are_named_with_the_places_looked_at(problems, minimal):
    found = problems(minimal.replace("prompts.jsonl", "promts.jsonl"))
    assert found == ["my.yaml:3 corpus.path: no file promts.jsonl (looked for promts.jsonl)"]


def test_run_names_that_are_no_folder_names_are_refused(problems, minimal):
    assert problems(minimal.replace("trial", "../trial")) == [
        "my.yaml:1 name: name runs with letters, digits, -, _ and . only"
    ]


def test_every_problem_is_reported_at_once_in_the_order_of_the_file(problems, minimal):
    found = problems(
        f"{minimal}"
        "partition: {use: kmean}\n"
        "align:\n"
        "  tokens: many\n"
        "  batch_tokens: 1\n"
        "  learning_rate: -1\n"
        "  use: lorakd\n"
        "seeed: 1\n",
        "route.use=logistik",
    )
    assert [line.split(": ")[0] for line in found] == [
        "my.yaml:7 partition.use",
        "my.yaml:9 align.tokens",
        "my.yaml:10 align.batch_tokens",
        "my.yaml:11 align.learning_rate",
        "my.yaml:12 align.use",
        "my.yaml:13 seeed",
        "override route.use",
    ]


def test_all_options_of_a_plugin_are_checked(problems, minimal):
    found = problems(f"{minimal}partition: {{options: {{clusters: 0, least: 0, mots: 1}}}}\n")
    assert [line.split(": ")[0] for line in found] == [
        "my.yaml:7 partition.options.mots",
        "my.yaml:7 partition.options.clusters",
        "my.yaml:7 partition.options.least",
    ]


@pytest.mark.parametrize(
    ("drafts", "message"),
    [
        ("[small, nobody]", "the pool has no draft 'nobody'; it has: small, one"),
        ("[both]", "'both' drafts with others itself; name those drafts instead"),
        ("[small, small]", "'small' is named 2 times; name it once"),
        ("[one]", "'one' drafts with others itself; name those drafts instead"),
    ],
)
def test_a_draft_of_drafts_names_plain_drafts_of_the_pool(problems, minimal, drafts, message):
    found = problems(
        f"{minimal}    one: {{use: several, options: {{drafts: [small]}}}}\n"
        f"    both: {{use: several, options: {{drafts: {drafts}}}}}\n"
    )
    assert found == [f"my.yaml:8 draft.pool.both.options: {message}"]


def test_no_problem_is_reported_because_of_another(problems, minimal):
    found = problems(f"{minimal}partition: {{use: [kmeans], options: {{any: 1}}}}\n")
    assert found == ["my.yaml:7 partition.use: expected text, found ['kmeans']"]
