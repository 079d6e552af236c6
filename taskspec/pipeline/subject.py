"""What a corpus is benchmarked with: a bundle, or a run with all its drafts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from taskspec.decoding.engine import Engine
from taskspec.errors import ArtifactError
from taskspec.interfaces import Sampling
from taskspec.models.loading import LanguageModel
from taskspec.pipeline.alignment_jobs import SINGLE
from taskspec.pipeline.assign import Assigned, load_assignment, pool_entries
from taskspec.pipeline.comparing import made_by
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.encode import known_examples
from taskspec.pipeline.entries import PROMPT_LOOKUP, engine_for
from taskspec.pipeline.routes import run_router
from taskspec.pipeline.run import stages
from taskspec.pipeline.run_folder import RECIPE, finished_stages
from taskspec.recipe.loading import load_recipe
from taskspec.registry import Registry
from taskspec.serving.bundle import load_bundle
from taskspec.serving.pool import Pool, load_pool
from taskspec.serving.routing import Assignment, PromptRouter
from taskspec.serving.seen import load_seen, prompt_keys

BUNDLE = "bundle.json"


@dataclass(frozen=True)
class Subject:
    """Target, drafts and router under test.

    Attributes:
        target: The target model.
        pool: The drafts.
        router: From prompt to draft.
        engine: Over all of them.
        assigned: Drafts and lengths of tasks and baselines.
        system: System message for prompts that have none.
        decode: The recipe's `decode` section.
        dtype: The target's dtype.
        seen: Keys of prompts that trained or chose drafts; None for a bundle that does not say.
        results: Identity of what each of the run's stages made, or the bundle's.
    """

    target: LanguageModel
    pool: Pool
    router: PromptRouter
    engine: Engine
    assigned: Assigned
    system: str | None
    decode: Mapping[str, Any]
    dtype: str
    seen: frozenset[str] | None
    results: Mapping[str, str]

    @property
    def sampling(self) -> Sampling:
        """The recipe's logits processors."""
        return Sampling(self.decode["temperature"], self.decode["top_k"], self.decode["top_p"])


def open_subject(
    folder: Path, registry: Registry, console: Console, target: str | None = None
) -> Subject:
    """Load a run's folder or a bundle's.

    Args:
        folder: The folder.
        registry: The plugins.
        console: Where progress is shown.
        target: Where to take a bundle's target from instead; its weights must be the same.

    Raises:
        ArtifactError: When it is neither, or the run is not finished up to its router.
    """
    if (folder / BUNDLE).is_file():
        return _from_bundle(folder, registry, target)
    if not (folder / RECIPE).is_file():
        raise ArtifactError(
            f"{folder} is neither a run nor a bundle; give the folder of a finished run, such as "
            "runs/quickstart, or its bundle"
        )
    if target is not None:
        raise ArtifactError(
            f"--target is for bundles; the run in {folder} takes the target that its recipe names"
        )
    return _from_run(open_run(folder, registry, console))


def open_run(folder: Path, registry: Registry, console: Console) -> RunContext:
    """The context of a run that is finished up to its router.

    Raises:
        ArtifactError: When a stage is not finished, or another recipe's.
    """
    loaded = load_recipe(str(folder / RECIPE), [], registry)
    context = RunContext(loaded, registry, folder, console)
    for number, stage in enumerate(stages(loaded.recipe.extends), start=1):
        if stage.name not in ("evaluate", "bundle"):
            place = stage.place or f"stages/{number:02d}-{stage.name}"
            context.stage_folders[stage.name] = folder / place
    finished_stages(folder, context.stage_folders)
    return context


def _from_run(context: RunContext) -> Subject:
    assigned = load_assignment(context.stage_folders["assign"])
    pool = load_pool(pool_entries(context, assigned), context.registry, context.target)
    return Subject(
        context.target,
        pool,
        run_router(context, assigned),
        engine_for(context, pool),
        assigned,
        context.recipe.target.system,
        plain(context.recipe.decode),
        context.recipe.target.dtype,
        prompt_keys(known_examples(context)),
        made_by(context.stage_folders),
    )


def _from_bundle(folder: Path, registry: Registry, target: str | None) -> Subject:
    bundle = load_bundle(folder, registry, target)
    manifest = bundle.manifest
    baselines: dict[str, Assignment] = {}
    for each in (*manifest.tasks, manifest.fallback, *manifest.spares):
        entry = bundle.pool.entries.get(each.draft or "")
        if each.draft is not None and each.draft.endswith(f"@{SINGLE}"):
            baselines.setdefault(SINGLE, each)
        if entry is not None and entry.plugin.use == PROMPT_LOOKUP:
            baselines.setdefault(PROMPT_LOOKUP, each)
    return Subject(
        bundle.target,
        bundle.pool,
        bundle.router,
        bundle.engine,
        Assigned(manifest.tasks, baselines, manifest.fallback),
        manifest.system,
        manifest.decode,
        manifest.dtype,
        load_seen(folder),
        made_by({"bundle": folder}),
    )
