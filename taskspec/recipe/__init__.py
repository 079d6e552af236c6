"""Recipes: schema, loading with overrides, and validation before any work."""
