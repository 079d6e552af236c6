"""TaskSpec: task-routed speculative decoding that leaves the target's answers unchanged."""

__version__ = "0.1.0"
