"""Stage 9: one folder with everything that `generate` needs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from taskspec.pipeline.assign import load_assignment
from taskspec.pipeline.context import RunContext, plain
from taskspec.pipeline.encode import known_examples, known_prefixes
from taskspec.pipeline.entries import all_entries
from taskspec.pipeline.routes import load_routes
from taskspec.pipeline.stage import Stage
from taskspec.serving.bundle import BundleManifest, write_manifest
from taskspec.serving.known import KNOWN
from taskspec.serving.pool import DraftEntry, with_members
from taskspec.serving.seen import prompt_keys, write_seen


class Bundle(Stage):
    """Copies the assigned drafts, the router and its encoder, and names the target.

    The target's weights are not copied: the bundle names where they come from and their
    digest, and refuses others.
    """

    name = "bundle"
    place = "bundle"
    needs = ("collect", "assign", "route")

    def settings(self, context: RunContext) -> Any:
        """What a bundle records beyond the stages it copies."""
        recipe = context.recipe
        decode = plain(recipe.decode)
        if not decode["remember"]:
            # As the bundles are that were made before there was a memory.
            del decode["remember"]
        return {
            "target": plain(recipe.target),
            "decode": decode,
            "threshold": recipe.route.fixed_threshold,
            "prefixes": "kept",
            "digest": "kept",
            **({"quarantine": True} if recipe.route.quarantine else {}),
        }

    def run(self, context: RunContext, folder: Path) -> str:
        """Write `bundle.json`, `drafts/`, `router/`, `encoder/` and `seen.json`."""
        assigned = load_assignment(context.stage_folders["assign"])
        routes = load_routes(context, assigned)
        used = {a.draft for a in (*routes.classes, assigned.fallback) if a.draft is not None}
        known = all_entries(context, len(assigned.tasks))
        spares = tuple(each for each in assigned.spares if each.draft not in used)
        spared = [each.draft for each in spares if each.draft is not None]
        wanted = with_members([*sorted(used), *spared], known)
        route_folder = context.stage_folders["route"]
        for part in ("router", "encoder"):
            shutil.copytree(route_folder / part, folder / part, dirs_exist_ok=True)
        if (route_folder / KNOWN).is_file():
            shutil.copy(route_folder / KNOWN, folder / KNOWN)
        write_seen(folder, prompt_keys(known_examples(context)))
        # An interrupted attempt may have copied a part of one.
        if (folder / "drafts").exists():
            shutil.rmtree(folder / "drafts")
        entries = [_copy(entry, folder / "drafts") for entry in wanted]
        recipe = context.recipe
        write_manifest(
            folder,
            BundleManifest(
                target=recipe.target.model,
                target_fingerprint=context.target.fingerprint,
                dtype=recipe.target.dtype,
                device=recipe.target.device,
                system=recipe.target.system,
                decode=plain(recipe.decode),
                route=plain(replace(recipe.route, threshold=routes.threshold)),
                drafts=tuple(entries),
                tasks=routes.classes,
                fallback=assigned.fallback,
                spares=spares,
                prefixes=known_prefixes(context),
                target_digest=context.target.digest(),
            ),
        )
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        return f"{len(entries)} drafts, {size / 1e6:.0f} MB"


def _copy(entry: DraftEntry, drafts: Path) -> DraftEntry:
    """Copy a draft; drafts on one base share its copy. Paths become relative to the bundle."""
    base_name = entry.name.partition("@")[0] if entry.adapter is not None else entry.name
    base = drafts / base_name
    if not base.exists() and entry.folder.is_dir():
        shutil.copytree(entry.folder, base)
    base.mkdir(parents=True, exist_ok=True)
    adapter = None
    if entry.adapter is not None:
        shutil.copytree(entry.adapter, drafts / entry.name, dirs_exist_ok=True)
        adapter = Path("drafts") / entry.name
    return replace(entry, folder=Path("drafts") / base_name, adapter=adapter)
