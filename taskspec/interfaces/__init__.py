"""The contracts: one module per plugin kind. Importing them imports no torch."""

from taskspec.interfaces.aligner import Aligner, AlignmentLoss
from taskspec.interfaces.drafter import DraftCorpus, Drafter, Member, Proposal, TrainableDrafter
from taskspec.interfaces.encoder import Encoder
from taskspec.interfaces.partitioner import PartitionContext, Partitioner
from taskspec.interfaces.plugin import NoOptions, Plugin, option
from taskspec.interfaces.router import Router
from taskspec.interfaces.sampling import GREEDY_EPSILON, Sampling
from taskspec.interfaces.target import Target
from taskspec.interfaces.teacher import TeacherSignal, TrainingBatch
from taskspec.interfaces.verifier import Verdict, Verifier

__all__ = [
    "GREEDY_EPSILON",
    "Aligner",
    "AlignmentLoss",
    "DraftCorpus",
    "Drafter",
    "Encoder",
    "Member",
    "NoOptions",
    "PartitionContext",
    "Partitioner",
    "Plugin",
    "Proposal",
    "Router",
    "Sampling",
    "Target",
    "TeacherSignal",
    "TrainableDrafter",
    "TrainingBatch",
    "Verdict",
    "Verifier",
    "option",
]
