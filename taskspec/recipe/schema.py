"""The recipe: frozen dataclasses that name every choice of a run.

Every field has a default or is required (`MISSING`); its docstring line is the reference shown
to users. Range checks live in `__post_init__` and raise `ValueError`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from omegaconf import MISSING

from taskspec.recipe.alignment import AlignConfig
from taskspec.recipe.assignment import AssignConfig, RouteConfig
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.ranges import at_least, one_of, positive


@dataclass(frozen=True)
class TargetConfig:
    """The model whose answers must not change.

    Attributes:
        model: A name from `taskspec models`, a Hugging Face hub id, or a local folder, whose
            path has a slash in it, such as `./mine`.
        dtype: `float32` or `bfloat16`.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        system: System message put before every prompt that has none; null leaves it to the
            model's chat template.
    """

    model: str = MISSING
    dtype: str = "bfloat16"
    device: str = "auto"
    system: str | None = None

    def __post_init__(self) -> None:
        one_of("dtype", self.dtype, ("float32", "bfloat16"))
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, not '{self.device}'")


@dataclass(frozen=True)
class CorpusConfig:
    """The user's prompts.

    Attributes:
        path: A JSONL file of chats, or `package:FILE` for prompts shipped with the recipes.
            Relative paths start at the recipe's folder when the file is there, else at the
            working directory.
        validation_share: Share of rows without a `split` that choose drafts.
        test_share: Share of rows without a `split` that are held out for evaluation.
        limit: Use at most this many training prompts (drawn with the seed); null uses all.
        leave_out: Known tasks whose prompts neither train nor choose anything; they are answered
            all the same, and held-out ones stay. It shows what unseen tasks get.
    """

    path: str = MISSING
    validation_share: float = 0.1
    test_share: float = 0.1
    limit: int | None = None
    leave_out: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("validation_share", "test_share"):
            value = getattr(self, name)
            if not 0 < value < 0.5:
                raise ValueError(f"{name} must be above 0 and below 0.5, not {value:g}")
        if self.limit is not None:
            at_least("limit", self.limit, 2)


@dataclass(frozen=True)
class EndpointConfig:
    """An OpenAI-compatible server that answers in the target's place, such as vLLM.

    Attributes:
        url: Base address, such as `http://localhost:8000/v1`; empty to answer here.
        model: The target's name there; empty for `target.model`.
        key_variable: Environment variable that holds the key; empty for servers without one.
        concurrency: Requests under way at a time.
        retries: Times that a failed request is repeated, with growing pauses.
        timeout: Seconds until a request is given up.
        max_failed: Share of prompts that may stay without an answer; they are left out.
    """

    url: str = ""
    model: str = ""
    key_variable: str = ""
    concurrency: int = 16
    retries: int = 4
    timeout: float = 120.0
    max_failed: float = 0.1

    def __post_init__(self) -> None:
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"url must begin with http:// or https://, not '{self.url}'")
        at_least("concurrency", self.concurrency, 1)
        at_least("retries", self.retries, 0)
        positive("timeout", self.timeout)
        if not 0 <= self.max_failed < 1:
            raise ValueError(f"max_failed must be at least 0 and below 1, not {self.max_failed:g}")


@dataclass(frozen=True)
class CollectConfig:
    """How the target answers the training and validation prompts.

    Attributes:
        max_new_tokens: Answers are cut there.
        batch_size: Prompts decoded together.
        free_text_tokens: Tokens of text sampled freely from the target, on nobody's prompts,
            for the generic recovery of drafts cut from it; 0 when no draft is cut.
        max_prompt_tokens: Longer prompts are refused, naming them.
        signal: What is kept of the target at every answer token, for alignment to learn from:
            `states`, from which its whole distribution is recomputed exactly; `top-k`, its
            likeliest tokens and the mass of the rest; `none`, so that it is run again there.
        top_k: Tokens kept with `top-k`.
        endpoint: A server that answers in the target's place; with it, `signal` must be `none`.
    """

    max_new_tokens: int = 64
    batch_size: int = 32
    free_text_tokens: int = 40_000
    max_prompt_tokens: int = 2048
    signal: str = "states"
    top_k: int = 64
    endpoint: EndpointConfig = field(default_factory=EndpointConfig)

    def __post_init__(self) -> None:
        if self.endpoint.url and self.signal != "none":
            raise ValueError(
                "signal must be none with an endpoint, which does not show the target's states; "
                "alignment then asks the target here"
            )
        at_least("max_new_tokens", self.max_new_tokens, 1)
        at_least("batch_size", self.batch_size, 1)
        at_least("free_text_tokens", self.free_text_tokens, 0)
        at_least("max_prompt_tokens", self.max_prompt_tokens, 1)
        one_of("signal", self.signal, ("states", "top-k", "none"))
        at_least("top_k", self.top_k, 1)


@dataclass(frozen=True)
class EncodeConfig(PluginChoice):
    """How texts become vectors for partitioning.

    Attributes:
        text: `prompt`, or `prompt+answer` as in the paper.
        clean: Lower-case the text and leave out special characters and stop words before it is
            encoded, as in the paper; partitioners that read texts still see it whole.
    """

    use: str = "tfidf"
    text: str = "prompt"
    clean: bool = False

    def __post_init__(self) -> None:
        one_of("text", self.text, ("prompt", "prompt+answer"))


@dataclass(frozen=True)
class PartitionConfig(PluginChoice):
    """How vectors become tasks.

    Attributes:
        noise: What becomes of prompts labelled as noise: `nearest` joins them to the task of
            the nearest prompt that has one, `drop` leaves them out of training.
        shuffled: Deal the labels out to other prompts, drawn with the seed, so that tasks keep
            their sizes and lose their meaning, which shows what clustering is worth.
    """

    use: str = "kmeans"
    noise: str = "nearest"
    shuffled: bool = False

    def __post_init__(self) -> None:
        one_of("noise", self.noise, ("nearest", "drop"))


@dataclass(frozen=True)
class DraftConfig:
    """The drafts to choose from.

    Attributes:
        pool: Candidate drafts by a name of your own. Trainable ones are aligned to each task.
    """

    pool: dict[str, PluginChoice] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.pool:
            raise ValueError("pool must name at least one draft")


@dataclass(frozen=True)
class CorrectionConfig:
    """Whether drafts that fall short are replaced while they serve.

    Attributes:
        use: Replace them; off, a request keeps the draft that its task was assigned.
        share: Part of plain decoding's time that may be lost on an answer, as predicted.
        grace: Plain steps that may be lost besides, so that a draft can be tried at all.
        experience: Begin an answer from what earlier ones of the same call showed of the drafts;
            off, each begins from what the assignment promised.
    """

    use: bool = False
    share: float = 0.03
    grace: float = 2.0
    experience: bool = False

    def __post_init__(self) -> None:
        at_least("share", self.share, 0)
        at_least("grace", self.grace, 0)
        if self.experience and not self.use:
            raise ValueError(
                "experience is what correction begins from, and that is off; set use to true, or "
                "leave experience out"
            )


@dataclass(frozen=True)
class DecodeConfig:
    """How requests are decoded.

    Attributes:
        verifier: The verifier; it must suit the temperature.
        temperature: 0 is greedy.
        top_k: Keep the k most likely tokens; 0 keeps all.
        top_p: Keep the smallest set of tokens with this mass.
        correction: What becomes of drafts that fall short in an answer.
        remember: Tokens of served answers that each draft which remembers (`suffix`) keeps, to copy
            from as long as the process lives; 0 keeps none.
    """

    verifier: PluginChoice = field(default_factory=lambda: PluginChoice(use="greedy"))
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    correction: CorrectionConfig = field(default_factory=CorrectionConfig)
    remember: int = 0

    def __post_init__(self) -> None:
        at_least("temperature", self.temperature, 0)
        at_least("top_k", self.top_k, 0)
        at_least("remember", self.remember, 0)
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")


@dataclass(frozen=True)
class EvaluateConfig:
    """How the result is measured, on held-out prompts.

    Attributes:
        prompts_per_task: Test prompts per task label (or per found task without labels).
        max_new_tokens: Tokens decoded per prompt.
        repeats: Timed repeats, in rotated order; from the second on, only plain decoding, the
            routed method and the oracle's pick are timed.
        lossless_prompts: Test prompts checked in float32 against plain decoding.
        resamples: Bootstrap resamples.
    """

    prompts_per_task: int = 10
    max_new_tokens: int = 48
    repeats: int = 2
    lossless_prompts: int = 50
    resamples: int = 10_000

    def __post_init__(self) -> None:
        for name in ("prompts_per_task", "max_new_tokens", "repeats", "resamples"):
            at_least(name, getattr(self, name), 1)
        at_least("lossless_prompts", self.lossless_prompts, 0)


@dataclass(frozen=True)
class Recipe:
    """A whole run.

    Attributes:
        name: Name of the run's folder.
        runs: Folder that holds run folders, relative to the working directory.
        seed: Source of all randomness.
        threads: CPU threads of torch; null leaves torch's own choice.
        extends: Folder of a finished run whose tasks, drafts and assignments are kept, so that only
            prompts unknown to it are made new tasks of; `taskspec extend` writes such recipes.
    """

    name: str = MISSING
    target: TargetConfig = field(default_factory=TargetConfig)
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    collect: CollectConfig = field(default_factory=CollectConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    draft: DraftConfig = field(default_factory=DraftConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    assign: AssignConfig = field(default_factory=AssignConfig)
    route: RouteConfig = field(default_factory=RouteConfig)
    decode: DecodeConfig = field(default_factory=DecodeConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    runs: str = "runs"
    seed: int = 0
    threads: int | None = None
    extends: str | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("runs must name a folder; '.' is the working directory")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed must be at least 0 and below 2**32, not {self.seed}")
        if self.threads is not None:
            at_least("threads", self.threads, 1)
