"""Alignment training: teacher signal, losses, data, and the Lightning module."""
