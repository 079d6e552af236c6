"""A bundle: the folder that `generate` loads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.correction import Correction
from taskspec.decoding.engine import Engine
from taskspec.decoding.prefixes import Prefixes
from taskspec.decoding.records import Generation, Request
from taskspec.errors import ArtifactError
from taskspec.files import replacing
from taskspec.interfaces import Sampling, Verifier
from taskspec.models.fingerprint import tells_weights
from taskspec.models.loading import LanguageModel, device_here, load_language_model
from taskspec.recipe.assignment import RouteConfig
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin
from taskspec.registry import Registry
from taskspec.serving.known import KnownPrompts, load_known
from taskspec.serving.pool import DraftEntry, Pool, load_pool
from taskspec.serving.routing import (
    Assignment,
    PromptRouter,
    Route,
    load_prompt_router,
    read_assignment,
)
from taskspec.serving.text_stream import TextStream

if TYPE_CHECKING:
    from taskspec.corpus.examples import Message

_FILE = "bundle.json"
_CALIBRATED = "calibrated.json"
_FORMAT = 3
_MEND = "copy it again or run its recipe again"


@contextmanager
def _read_from(place: Path, mend: str) -> Iterator[None]:
    """Say of what cannot be read in a bundle, whatever reads it, that it is not whole.

    Raises:
        ArtifactError: With the mend.
    """
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise ArtifactError(f"{place} is not whole ({error}); {mend}") from error


@dataclass(frozen=True)
class BundleManifest:
    """What `bundle.json` says.

    Attributes:
        target: Where the target comes from: catalog name, hub id or folder.
        target_fingerprint: Identity of its weights, by their source.
        dtype: Its dtype.
        device: Where it runs.
        system: System message for prompts that have none.
        decode: The recipe's `decode` section.
        route: The recipe's `route` section, with the threshold in use.
        drafts: The drafts, with folders relative to the bundle.
        tasks: One assignment per class of the router: per task, or with `route.labels: speed`
            per way of decoding.
        fallback: What decodes when the router abstains.
        spares: Further drafts, which copy and take no memory, for in-flight correction.
        prefixes: Token ids that many of its run's prompts begin with.
        target_digest: Of the target's weights, wherever they lie; None in earlier bundles.
    """

    target: str
    target_fingerprint: str
    dtype: str
    device: str
    system: str | None
    decode: Mapping[str, Any]
    route: Mapping[str, Any]
    drafts: tuple[DraftEntry, ...]
    tasks: tuple[Assignment, ...]
    fallback: Assignment
    spares: tuple[Assignment, ...] = ()
    prefixes: Prefixes = ()
    target_digest: str | None = None


def write_manifest(folder: Path, manifest: BundleManifest) -> None:
    """Write `bundle.json`."""
    value = {"format": _FORMAT, **asdict(manifest)}
    text = json.dumps(value, indent=1, default=str) + "\n"
    with replacing(folder / _FILE) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_manifest(folder: Path) -> BundleManifest:
    """Read `bundle.json`, folders made absolute, tasks and fallback as last calibrated.

    Raises:
        ArtifactError: When the folder is no bundle, one of another format, or not whole.
    """
    try:
        value = json.loads((folder / _FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ArtifactError(
            f"{folder} is not a bundle ({_FILE} is missing or damaged); "
            "give the bundle folder of a finished run, such as runs/quickstart/bundle"
        ) from None
    if value.pop("format", None) != _FORMAT:
        raise ArtifactError(
            f"{folder} was made by another version of TaskSpec; run its recipe again"
        )
    drafts = tuple(
        DraftEntry(
            each["name"],
            PluginChoice(**each["plugin"]),
            folder / each["folder"],
            None if each["adapter"] is None else folder / each["adapter"],
            tuple(each["members"]),
        )
        for each in value.pop("drafts")
    )
    tasks, fallback = _read_tasks(value.pop("tasks")), read_assignment(value.pop("fallback"))
    calibrated = folder / _CALIBRATED
    if calibrated.is_file():
        with _read_from(calibrated, "remove it and calibrate the bundle again"):
            found = json.loads(calibrated.read_text(encoding="utf-8"))
            # An earlier version left the fallback as it was and wrote the tasks alone.
            if isinstance(found, list):
                found = {"tasks": found, "fallback": asdict(fallback)}
            tasks, fallback = _read_tasks(found["tasks"]), read_assignment(found["fallback"])
    return BundleManifest(
        drafts=drafts,
        tasks=tasks,
        fallback=fallback,
        spares=_read_tasks(value.pop("spares", ())),
        prefixes=tuple(tuple(prefix) for prefix in value.pop("prefixes", ())),
        **value,
    )


def _read_tasks(values: Sequence[Mapping[str, Any]]) -> tuple[Assignment, ...]:
    return tuple(read_assignment(each) for each in values)


def write_assignments(folder: Path, tasks: Sequence[Assignment], fallback: Assignment) -> None:
    """Put other assignments in the place of those in `bundle.json`, which stays as it is.

    A bundle that is made anew has its run's assignments again.
    """
    value = {"tasks": [asdict(each) for each in tasks], "fallback": asdict(fallback)}
    with replacing(folder / _CALIBRATED) as temporary:
        temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Answer:
    """One answered prompt.

    Attributes:
        text: The answer.
        route: How the prompt was routed.
        generation: Token ids, steps and how it ended.
        seconds: From reading the prompt to the last token.
    """

    text: str
    route: Route
    generation: Generation
    seconds: float


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle: target, drafts and router, ready to answer.

    Attributes:
        manifest: What was loaded.
        target: The target model.
        pool: The drafts.
        router: From prompt to assignment.
        engine: The decoding engine.
    """

    manifest: BundleManifest
    target: LanguageModel
    pool: Pool
    router: PromptRouter
    engine: Engine

    def answer(
        self,
        messages: Sequence[Message],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        seed: int = 0,
        on_text: Callable[[str], None] | None = None,
        correction: Correction | None = None,
        memory: AnswerMemory | None = None,
    ) -> Answer:
        """Answer one conversation.

        Args:
            messages: The conversation, ending with the user's turn.
            max_new_tokens: The answer is cut there.
            sampling: Logits processors; None takes the recipe's.
            seed: Seed of the request's random generator.
            on_text: Called with each new piece of the answer as it is decoded.
            correction: Replaces a draft that falls short; None keeps the task's.
            memory: Of `answer_memory`: drafts learn from the answer; None keeps nothing.
        """
        started = time.perf_counter()
        request, route = self.request("0", messages, max_new_tokens, sampling, seed)
        stream = TextStream(self.target.tokenizer, on_text)
        generation = self.engine.generate(
            [request],
            on_emit=lambda _, new: stream.push(new),
            correction=correction,
            memory=memory,
        )[0]
        seconds = time.perf_counter() - started
        return Answer(stream.finish(), route, generation, seconds)

    @property
    def sampling(self) -> Sampling:
        """The recipe's logits processors."""
        decode = self.manifest.decode
        return Sampling(decode["temperature"], decode["top_k"], decode["top_p"])

    def request(
        self,
        name: str,
        messages: Sequence[Message],
        max_new_tokens: int,
        sampling: Sampling | None = None,
        seed: int = 0,
    ) -> tuple[Request, Route]:
        """Route a conversation, and say how the engine is to answer it.

        Args:
            name: The request's id.
            messages: As in `answer`, and so the rest.
            max_new_tokens: The answer is cut there.
            sampling: Logits processors; None takes the recipe's.
            seed: Seed of the request's random generator.
        """
        sampling = sampling or self.sampling
        ids = self.target.chat_ids(messages, self.manifest.system)
        route = self.router.route("\n".join(m.content for m in messages if m.role != "system"))
        choice = self.pool.choice(route.assignment.draft, route.assignment.draft_length)
        return Request(name, ids, max_new_tokens, sampling, seed, choice), route


def read_known(folder: Path) -> KnownPrompts | None:
    """Where a bundle's known prompts lie; None where that was not measured.

    Raises:
        ArtifactError: When it is not whole.
    """
    with _read_from(folder, _MEND):
        return load_known(folder)


def load_bundle(
    folder: Path, registry: Registry, target: str | None = None, prefixes: bool = True
) -> Bundle:
    """Load a bundle and its target.

    Args:
        folder: The bundle's folder.
        registry: The plugins.
        target: Where to take the target from instead; its weights must be the same.
        prefixes: Whether what many prompts begin with is read once; beside engines that read
            every prompt whole, a benchmark does so, too.

    Raises:
        ArtifactError: When the folder is no bundle or not whole, or the target's weights are
            others.
    """
    manifest = read_manifest(folder)
    model = load_language_model(
        target or manifest.target, manifest.dtype, device_here(manifest.device)
    )
    if not _is_target(model, manifest):
        raise ArtifactError(
            f"{target or manifest.target} does not hold the weights this bundle was made for; "
            "its drafts and draft lengths were chosen for other ones. Run the recipe for it"
        )
    encoder = PluginChoice(**manifest.route["encoder"])
    route = RouteConfig(**{**manifest.route, "encoder": encoder})
    threshold = route.fixed_threshold
    if threshold is None:
        raise ArtifactError(f"{folder / _FILE} names no threshold; run its recipe again")
    with _read_from(folder, _MEND):
        pool = load_pool(manifest.drafts, registry, model)
        router = load_prompt_router(
            folder, route, registry, manifest.tasks, manifest.fallback, threshold
        )
    verifier = make_plugin(registry, "verifier", PluginChoice(**manifest.decode["verifier"]))
    assert isinstance(verifier, Verifier)
    shared = manifest.prefixes if prefixes else ()
    engine = Engine(model, verifier, pool.drafters, prefixes=shared)
    return Bundle(manifest, model, pool, router, engine)


def _is_target(model: LanguageModel, manifest: BundleManifest) -> bool:
    """Whether a model has the weights that the bundle was made for."""
    known = manifest.target_fingerprint
    if manifest.target_digest is None:
        # Of an earlier version, which knew hub ids without their commits.
        return known in (model.fingerprint, model.fingerprint.partition("@")[0])
    if model.fingerprint == known and tells_weights(known):
        return True
    return model.digest() == manifest.target_digest
