"""Metrics, statistics and tables, defined once for every report."""
