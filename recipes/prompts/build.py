"""Fill the quick-start prompts' templates with their material: `python recipes/prompts/build.py`.

Each `<task>.yaml` beside this file holds
    fields: names of the parts of one material row, which `|` divides. Parts beyond the last field
        are alternatives for it, each a material of its own.
    templates: train and heldout; the validation split uses the train templates.
    material: train, validation and heldout.
A template takes `{field}`, `{Field}` (first letter in upper case), `{field_lower}` (all in lower
case), the numbers of `_numbers`, and, where a field holds words marked as [right/wrong],
`{field_typos}` with the wrong ones.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent
OUTPUT = FOLDER / "quickstart.jsonl"
TASKS = ("math", "code", "sql", "email", "rewrite")
COUNTS = {"train": 216, "validation": 24, "test": 32}
_STRIDE = 7  # templates between one use of a material and its next use
_TYPO = re.compile(r"\[([^/\]]+)/([^\]]+)\]")


def build_rows() -> Iterator[dict[str, Any]]:
    """All prompts, task by task, the same ones each time.

    Yields:
        Rows with `id`, `task`, `split`, `template` and `messages`.
    """
    for task in TASKS:
        source = yaml.safe_load((FOLDER / f"{task}.yaml").read_text(encoding="utf-8"))
        number = 0
        for split, count in COUNTS.items():
            part = "heldout" if split == "test" else "train"
            templates = source["templates"][part]
            rows = source["material"]["heldout" if split == "test" else split]
            material = list(read_material(source["fields"], rows))
            for index in range(count):
                number += 1
                turn, place = divmod(index, len(material))
                chosen = (place + _STRIDE * turn) % len(templates)
                slots = material[place] | _numbers(f"{task} {split} {index}")
                yield {
                    "id": f"{task}-{number:04d}",
                    "task": task,
                    "split": split,
                    "template": f"{task}-{part[0]}{chosen + 1:02d}",
                    "messages": [{"role": "user", "content": templates[chosen].format(**slots)}],
                }


def read_material(fields: list[str], rows: list[str]) -> Iterator[dict[str, str]]:
    """What each material fills into a template's slots.

    Args:
        fields: Names of a row's parts.
        rows: Parts divided by `|`.

    Yields:
        Slot names with their texts.
    """
    for row in rows:
        parts = [part.strip() for part in row.split("|")]
        fixed, alternatives = parts[: len(fields) - 1], parts[len(fields) - 1 :]
        for last in alternatives:
            slots: dict[str, str] = {}
            for field, part in zip(fields, [*fixed, last], strict=True):
                right = _TYPO.sub(r"\1", part)
                slots[field] = right
                slots[field.capitalize()] = right[:1].upper() + right[1:]
                slots[f"{field}_lower"] = right.lower()
                slots[f"{field}_typos"] = _TYPO.sub(r"\2", part)
            yield slots


def _numbers(seed: str) -> dict[str, str]:
    """Numbers for word problems: n_a > n_b > n_c, n_d, the products n_bc and n_cd, twice n_a."""
    draw = random.Random(seed)
    ranges = {"a": (25, 60), "b": (11, 24), "c": (3, 9), "d": (2, 8)}
    values = {name: draw.randint(*bounds) for name, bounds in ranges.items()}
    for pair in ("bc", "cd"):
        values[pair] = values[pair[0]] * values[pair[1]]
    values["a2"] = 2 * values["a"]
    return {f"n_{name}": str(value) for name, value in values.items()}


def main() -> None:
    """Write the JSONL file."""
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in build_rows()]
    OUTPUT.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
