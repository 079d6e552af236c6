"""The part of a recipe that says how drafts are trained."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.ranges import at_least, one_of, positive

_PRECISIONS = (
    "auto",
    *("32-true", "16-mixed", "bf16-mixed", "16-true", "bf16-true", "64-true"),
    *("transformer-engine", "transformer-engine-float16"),
    *("32", "16", "bf16", "64"),
)
"""Lightning's names, and `auto`, which is ours."""


@dataclass(frozen=True)
class TrainerConfig:
    """Arguments of Lightning's Trainer, under Lightning's names.

    Attributes:
        accelerator: `auto`, `cpu`, `gpu`.
        devices: Number of devices of each machine, or `auto` for all there are.
        num_nodes: Machines; above 1 the processes are started by `torchrun` or SLURM.
        strategy: `auto`, which is `ddp` where `torchrun` or SLURM started the processes and
            `ddp_spawn` on several devices otherwise; `ddp`, `ddp_spawn`, or `fsdp`, which
            shards the draft (FSDP2).
        precision: A Lightning precision name, or `auto`: `bf16-mixed`, `32-true` on CPUs that do
            not multiply bf16 themselves.
        accumulate_grad_batches: Batches per optimizer step.
        gradient_clip_val: Clip the gradient's norm there.
        val_check_interval: Share of the training after which held-out answers are scored.
    """

    accelerator: str = "auto"
    devices: str = "auto"
    num_nodes: int = 1
    strategy: str = "auto"
    precision: str = "auto"
    accumulate_grad_batches: int = 1
    gradient_clip_val: float = 1.0
    val_check_interval: float = 0.5

    def __post_init__(self) -> None:
        one_of("accelerator", self.accelerator, ("auto", "cpu", "gpu", "cuda", "mps", "tpu"))
        if not re.fullmatch(r"auto|[1-9]\d*", self.devices):
            raise ValueError(f"devices must be auto or a number from 1 on, not '{self.devices}'")
        at_least("num_nodes", self.num_nodes, 1)
        one_of("strategy", self.strategy, ("auto", "ddp", "ddp_spawn", "fsdp"))
        one_of("precision", self.precision, _PRECISIONS)
        at_least("accumulate_grad_batches", self.accumulate_grad_batches, 1)
        at_least("gradient_clip_val", self.gradient_clip_val, 0)
        if not 0 < self.val_check_interval <= 1:
            raise ValueError(
                f"val_check_interval must be above 0 and at most 1, not {self.val_check_interval:g}"
            )


@dataclass(frozen=True)
class SearchConfig:
    """Successive halving over the pool's trainable drafts, for each task.

    Attributes:
        rounds: Rounds of training; after each but the last the least promising drafts of every
            task are dropped. 1 trains every draft to the end.
        keep: Share of a task's drafts that goes on after a round, at least one. A round ends at
            this share of the tokens at which the next one ends.
        tokens: Answer tokens that all alignments of a search may train on together; where more
            are planned, every one is shortened alike. Null sets no limit.
    """

    rounds: int = 1
    keep: float = 0.5
    tokens: int | None = None

    def __post_init__(self) -> None:
        at_least("rounds", self.rounds, 1)
        if not 0 < self.keep < 1:
            raise ValueError(f"keep must be above 0 and below 1, not {self.keep:g}")
        if self.tokens is not None:
            at_least("tokens", self.tokens, 1)


@dataclass(frozen=True)
class AlignConfig(PluginChoice):
    """How trainable drafts learn to say what the target would.

    Attributes:
        enabled: False leaves drafts as they were built, none aligned to any task.
        tokens: Answer tokens each task's draft is trained on, repeats counted. The generic
            recovery and the single draft train on this times the number of tasks.
        shared: Share of that budget which all tasks spend together, on one draft for all
            prompts, before each goes on alone; 0 lets every task start from the bare draft.
        drafts: Aligners of single drafts, by their names in the pool; the others learn by the one
            named above. Adapters of several ranks can so compete.
        recovery: Aligner of the generic recovery of cut drafts; must train whole drafts.
        batch_tokens: Tokens, prompts included, per batch.
        loss_logits: Logits computed at a time in the loss, positions times vocabulary; 0 for
            those of a whole batch.
        learning_rate: Peak learning rate of task alignment.
        recovery_learning_rate: Peak learning rate of the generic recovery.
        warmup: Share of steps in which the rate rises; afterwards it falls along a cosine.
        weight_decay: AdamW's weight decay.
        ema: Decay of averaged weights, which are the ones kept; 0 averages nothing. Not with
            `fsdp`.
        held_out: Validation answers scored while training; 0 for none.
        early_stopping: Scorings without a higher acceptance after which training ends, with the
            best weights; 0 trains to the end.
        jobs: `one-by-one`, each on all devices, or `side-by-side`, one task per device.
        loggers: Where curves go: `csv`, `tensorboard`, `wandb`, `mlflow`.
        parity_prompts: Validation prompts on which every trained draft is shown to do in the
            engine what it did in training; 0 trusts it.
        search: Which drafts are trained to the end.
        trainer: Lightning's Trainer.
    """

    use: str = "lora-kd"
    enabled: bool = True
    tokens: int = 40_000
    shared: float = 0.5
    drafts: dict[str, PluginChoice] = field(default_factory=dict)
    recovery: PluginChoice = field(default_factory=lambda: PluginChoice(use="kd"))
    batch_tokens: int = 2048
    loss_logits: int = 2**25
    learning_rate: float = 1e-3
    recovery_learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.01
    ema: float = 0.0
    held_out: int = 32
    early_stopping: int = 0
    jobs: str = "one-by-one"
    loggers: list[str] = field(default_factory=lambda: ["csv"])
    parity_prompts: int = 4
    search: SearchConfig = field(default_factory=SearchConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)

    def aligner_of(self, draft: str) -> PluginChoice:
        """By which aligner a draft of the pool learns."""
        return self.drafts.get(draft, self)

    def __post_init__(self) -> None:
        at_least("tokens", self.tokens, 1)
        at_least("batch_tokens", self.batch_tokens, 16)
        for name in ("loss_logits", "weight_decay", "held_out", "early_stopping", "parity_prompts"):
            at_least(name, getattr(self, name), 0)
        positive("learning_rate", self.learning_rate)
        positive("recovery_learning_rate", self.recovery_learning_rate)
        if not 0 <= self.shared < 1:
            raise ValueError(f"shared must be at least 0 and below 1, not {self.shared:g}")
        if not 0 <= self.warmup <= 1:
            raise ValueError(f"warmup must be between 0 and 1, not {self.warmup:g}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema must be at least 0 and below 1, not {self.ema:g}")
        if self.ema and self.trainer.strategy == "fsdp":
            raise ValueError(
                "ema averages whole weights, which trainer.strategy: fsdp has in pieces; set ema "
                "to 0, or the strategy to ddp"
            )
        if self.early_stopping and not self.held_out:
            raise ValueError("early_stopping needs held_out answers to judge by; set held_out")
        one_of("jobs", self.jobs, ("one-by-one", "side-by-side"))
        if self.search.rounds > 1 and self.jobs != "one-by-one":
            raise ValueError("jobs must be one-by-one where search has several rounds")
        for each in self.loggers:
            one_of("loggers", each, ("csv", "tensorboard", "wandb", "mlflow"))
