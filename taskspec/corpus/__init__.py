"""Prompts, their splits, and the answers to them."""
