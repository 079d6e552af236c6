"""One complete small plugin per kind: what `taskspec new-plugin` copies and the docs show."""
