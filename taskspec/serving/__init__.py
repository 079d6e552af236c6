"""Using what a run made: the pool of drafts, prompt routing, bundles."""
