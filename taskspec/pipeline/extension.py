"""From a finished run and new prompts to the recipe of a run that extends it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from taskspec.corpus.examples import Example
from taskspec.corpus.readers import read_examples
from taskspec.corpus.splits import with_splits
from taskspec.errors import CorpusError, TaskSpecError, Terminated
from taskspec.pipeline.artifacts import write_atomically
from taskspec.pipeline.collect import load_examples
from taskspec.pipeline.kept import STAGES
from taskspec.pipeline.placing import check_enough, place_prompts
from taskspec.pipeline.run_folder import RECIPE, RunFolder, open_run
from taskspec.recipe.loading import LoadedRecipe, load_recipe
from taskspec.recipe.schema import Recipe
from taskspec.recipe.yaml_text import read_yaml
from taskspec.registry import Registry
from taskspec.serving.answer_log import logged_prompts

_ALIGNMENT = ("enabled", "use", "options", "shared", "recovery", "drafts")


def extend_recipe(
    run: Path, prompts: Path, overrides: Sequence[str], registry: Registry, console: Console
) -> LoadedRecipe:
    """Write the corpus of an extended run, and make its recipe.

    Args:
        run: Folder of a finished run.
        prompts: New prompts, in any format of a corpus, or a log that has some; those that the run
            has are left out, and of those that are the same, one is kept.
        overrides: Changes to the run's recipe, as `key=value`, in what is not kept.
        registry: The plugins.
        console: Where is said what is left out.

    Returns:
        The recipe of `<name>-extended`, beside the run.

    Raises:
        ArtifactError: When the run is not finished.
        CorpusError: When no prompt is new, or too few are unknown to the run.
        RecipeError: When an override is wrong.
        TaskSpecError: When one changes what is kept.
    """
    run = run.resolve()
    kept = open_run(run, list(STAGES), {})
    left_out = _left_out(run)
    examples = [
        each
        for each in load_examples(kept.stages["collect"])
        if each.split == "test" or each.task not in left_out
    ]
    new = _new(examples, _read(prompts, console))
    if not new:
        raise CorpusError(f"the run has every prompt of {prompts} already; give others")
    text = "".join(json.dumps(_row(each)) + "\n" for each in [*examples, *new])
    recipe = str(run / RECIPE)
    with _written(run.parent / f"{run.name}-extended", text) as corpus:
        own = _settings(run, corpus)
        loaded = load_recipe(recipe, [*own, *overrides], registry)
        _check_kept(load_recipe(recipe, own, registry).recipe, loaded.recipe)
        _check_prompts(kept, loaded.recipe, registry, new)
    return loaded


def _read(prompts: Path, console: Console) -> list[Example]:
    """Prompts of a corpus or a log.

    Raises:
        CorpusError: When there are none, or when it is a corpus and malformed.
    """
    logged = logged_prompts(prompts) if prompts.is_file() else None
    if logged is None:
        return read_examples(prompts)
    found, others = logged
    if not found:
        raise CorpusError(
            f"{prompts} is a log without prompts; answer with --watch-prompts to have them in it"
        )
    if others:
        note = f"note: lines of {prompts} that are left out, as they hold no whole prompt: {others}"
        console.print(note, highlight=False, markup=False, soft_wrap=True)
    return found


@contextmanager
def _written(folder: Path, text: str) -> Iterator[Path]:
    """Write a corpus into a folder for what checks it; removed when that refuses it.

    Its name says what it holds, so an earlier extension's, which a run there may be reading, stays.
    """
    digest = hashlib.sha256(text.encode()).hexdigest()
    corpus = folder / f"corpus-{digest[:16]}.jsonl"
    new_folder, new_corpus = not folder.exists(), not corpus.exists()
    folder.mkdir(exist_ok=True)
    write_atomically(corpus, text)
    try:
        yield corpus
    except (TaskSpecError, KeyboardInterrupt, Terminated):
        if new_corpus:
            corpus.unlink()
        if new_folder:
            folder.rmdir()
        raise


def _settings(run: Path, corpus: Path) -> list[str]:
    """What the recipe of an extended run has of its own."""
    return [
        f"name={json.dumps(corpus.parent.name)}",
        f"runs={json.dumps(str(run.parent))}",
        f"corpus.path={json.dumps(str(corpus))}",
        "corpus.limit=null",
        "corpus.leave_out=[]",
        # A search would try drafts on the tasks that have theirs; new ones try every draft.
        "align.search.rounds=1",
        "align.search.tokens=null",
        f"extends={json.dumps(str(run))}",
    ]


def _check_prompts(
    kept: RunFolder, recipe: Recipe, registry: Registry, new: Sequence[Example]
) -> None:
    """Before the target is asked anything, make sure that there is a task to make.

    Raises:
        CorpusError: When there is not.
    """
    train = [e for e in with_splits(new, recipe.corpus, recipe.seed) if e.split == "train"]
    unknown = 0
    if train:
        unknown = int(place_prompts(kept, recipe.route.encoder, registry, train)[1].sum())
    check_enough(kept, len(train), unknown)


def _left_out(run: Path) -> list[str]:
    """Known tasks that the run left out of everything but evaluation."""
    values = read_yaml((run / RECIPE).read_text(encoding="utf-8"))
    found: list[str] = values["corpus"].get("leave_out", [])
    return found


def _new(known: Sequence[Example], prompts: Sequence[Example]) -> list[Example]:
    """Prompts with other texts than the known ones, each once; their ids follow from what they say.

    So a log that has grown gives the same prompts the same ids and splits.
    """
    texts = {each.prompt_text for each in known}
    found: dict[str, Example] = {}
    for each in prompts:
        if each.prompt_text not in texts:
            found.setdefault(each.prompt_text, replace(each, id=f"new-{each.digest}"))
    return list(found.values())


def _row(example: Example) -> dict[str, Any]:
    return {
        "id": example.id,
        **({} if example.split is None else {"split": example.split}),
        **({} if example.task is None else {"task": example.task}),
        "messages": [asdict(message) for message in example.messages],
    }


def _check_kept(before: Recipe, after: Recipe) -> None:
    """Refuse changes to what kept drafts and assignments were made with.

    Raises:
        TaskSpecError: Naming the keys.
    """
    pairs = {
        name: (getattr(before, name), getattr(after, name))
        for name in ("name", "runs", "extends", "seed")
        + ("target", "corpus", "collect", "draft", "decode")
    } | {
        f"align.{name}": (getattr(before.align, name), getattr(after.align, name))
        for name in _ALIGNMENT
    }
    # It says which new prompts are unknown.
    pairs["route.encoder"] = before.route.encoder, after.route.encoder
    changed = [name for name, (one, other) in pairs.items() if one != other]
    if changed:
        raise TaskSpecError(
            f"an extended run keeps {', '.join(changed)} as the run has it; for other choices run "
            "a recipe of its own"
        )
