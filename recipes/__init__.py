"""Recipes shipped with TaskSpec, as package data."""
