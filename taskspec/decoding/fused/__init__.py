"""Few-token passes of a decoder on a GPU, with the operators between matrix products fused."""
