"""Compiled bf16 kernels for CPUs that multiply bf16, and the decoder that runs on them."""
