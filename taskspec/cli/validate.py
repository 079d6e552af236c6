"""`taskspec validate`: is this recipe fine?"""

from __future__ import annotations

from typing import Annotated

import typer


def validate(
    recipe: Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped recipe.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="Changes to the recipe, as key=value.")
    ] = None,
) -> None:
    """Check a recipe and its prompts without running anything; all problems at once.

    A recipe may be fine and yet not for this machine, as where its GPUs are elsewhere: then a note
    says what is missing here.

    Examples:

        taskspec validate my.yaml align.tokens=100000
    """
    from collections import Counter

    from taskspec.corpus.readers import read_examples
    from taskspec.corpus.splits import check_left_out, copies_left_out, split_examples
    from taskspec.errors import ModelError
    from taskspec.models.loading import find_device
    from taskspec.recipe.checks import choices
    from taskspec.recipe.corpus_path import resolve_corpus
    from taskspec.recipe.loading import load_recipe
    from taskspec.registry import default_registry
    from taskspec.training.strategies import check_launch

    registry = default_registry()
    loaded = load_recipe(recipe, overrides or [], registry)
    corpus = loaded.recipe.corpus
    read = read_examples(resolve_corpus(corpus.path, loaded.folder))
    examples = split_examples(read, corpus, loaded.recipe.seed)
    copies = copies_left_out(read)
    check_left_out(examples, corpus.leave_out)
    counts = Counter(example.split for example in examples)
    typer.echo(f"{loaded.source} is fine")
    typer.echo(f"  target   {loaded.recipe.target.model}, {loaded.recipe.target.dtype}")
    typer.echo(
        f"  prompts  {counts['train']} training, {counts['validation']} validation, "
        f"{counts['test']} held out" + (f"; {copies}" if copies else "")
    )
    for path, kind, choice in choices(loaded.recipe):
        record = registry.record(kind, choice.use)
        typer.echo(f"  {path}: {kind} {choice.use} ({record.distribution} {record.version})")
    for check in (
        lambda: find_device(loaded.recipe.target.device),
        lambda: check_launch(loaded.recipe.align),
    ):
        try:
            check()
        except ModelError as error:
            typer.echo(f"it cannot run here as it is: {error}", err=True)
