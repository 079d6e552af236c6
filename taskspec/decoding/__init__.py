"""The speculative engine: sampling, KV caches, and the draft-verify-commit loop."""
