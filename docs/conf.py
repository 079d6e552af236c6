"""Sphinx: Markdown pages, the furo theme."""

from taskspec import __version__

project = "TaskSpec"
author = "The TaskSpec authors"
release = __version__
extensions = ["myst_parser"]
html_theme = "furo"
myst_heading_anchors = 3
