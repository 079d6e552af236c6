"""Models: where they come from, loading, cutting, and whether two speak the same tokens."""
