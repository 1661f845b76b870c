"""Writes docs/faults.md from matrix.yaml: `python tests/faults/matrix.py`."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
DOCUMENT = HERE.parents[1] / "docs" / "faults.md"
INTRO = """# What was tried against it

Made by `python tests/faults/matrix.py` from tests/faults/matrix.yaml; a test holds this page, that file and the tests together. The
promise is: correct, or a clear stop. Tests are under `tests/`, and `make test` runs them where `make soak` is not named; those named
with Kafka need its jars (`make test` brings them where Maven is).
"""


def load() -> dict[str, Any]:
    """titles, rows, left_out."""
    found: dict[str, Any] = yaml.safe_load((HERE / "matrix.yaml").read_text(encoding="utf-8"))
    return found


@cache
def functions(file: str) -> dict[str, ast.FunctionDef]:
    """The functions of a file of tests by their names."""
    tree = ast.parse((HERE.parent / file).read_text(encoding="utf-8"))
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def is_soaked(test: str) -> bool:
    """Whether only `make soak` runs it."""
    file, _, name = test.partition("::")
    found = functions(file).get(name)
    return found is not None and "pytest.mark.soak" in map(ast.unparse, found.decorator_list)


def page(matrix: dict[str, Any]) -> str:
    """The document."""
    parts = [INTRO]
    for letter, title in matrix["titles"].items():
        parts.append(f"\n## {letter}. {title}\n\n| | what was done | what comes of it | tests |\n|---|---|---|---|")
        for name, row in matrix["rows"].items():
            if name[0] == letter:
                named = (f"`{test}`" + (" (`make soak`)" if is_soaked(test) else "") for test in row["tests"])
                tests = "<br>".join([*named, *([row["soak"]] if "soak" in row else [])])
                parts.append(f"| {name} | {row['done']} | {row['happens']} | {tests} |")
        left = {name: why for name, why in matrix["left_out"].items() if name[0] == letter}
        if left:
            parts.append("\nNot tried, or not as a test:\n")
            parts += [f"- {name}: {why}" for name, why in left.items()]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(page(load()), encoding="utf-8")
