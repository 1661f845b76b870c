"""The borders between the folders of lib/freshet, and what no module may do; every rule has a sample that breaks it."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "lib" / "freshet"


@dataclass(frozen=True)
class Layer:
    """What its modules may import: layers of Freshet, packages, and of the standard library all but `not_standard`."""

    modules: frozenset[str]
    layers: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()
    not_standard: frozenset[str] = frozenset()


def layer(modules: str, layers: str = "", packages: str = "", not_standard: str = "") -> Layer:
    return Layer(*(frozenset(words.split()) for words in (modules, layers, packages, not_standard)))


# A clock, a file or a random number inside of these would end "same events, same bits".
IMPURE = "os time random logging datetime secrets uuid pathlib socket subprocess threading"

LAYERS = {
    "facts": layer("errors schema schema_doc registry report failpoint java program printable roots arenas", "facts"),
    "settings": layer("settings", "facts settings", "pydantic pydantic_core yaml"),
    "kernels": layer("kernels", "facts kernels", "numpy numba llvmlite", IMPURE),
    "learning": layer(
        "models learner policy head workspace companions attributes prequential ranked inputs growth paired guards asking leader segments "
        "influence rates intake revisions labels lists shipping "
        "evaluation retraining normalising reconciliation",
        "facts settings kernels learning", "numpy scipy xxhash", IMPURE,
    ),
    "detectors": layer("detectors", "facts settings", "numpy river", IMPURE),
    "engine": layer("engine", "facts settings learning engine", "numpy pandas pyarrow pyspark py4j sqlglot xxhash"),
    "store": layer("store", "facts settings store", "numpy pyarrow pyspark py4j delta deltalake sqlglot"),
    "demo": layer("demo", "facts settings demo", "numpy pyarrow"),
    "pipelines": layer(
        "pipelines", "facts settings kernels learning detectors engine store demo pipelines",
        "numpy pandas pyarrow pyspark py4j delta xxhash prometheus_client",
    ),
    "pages": layer("path_doc", "facts settings kernels learning pipelines", "numpy xxhash"),
    "terminal": layer("terminal picture", "facts", "rich matplotlib"),
    "cli": layer("cli", "facts settings terminal pipelines cli", "click pyspark"),
    "jobs": layer("jobs", "cli"),
}  # fmt: skip

# Single modules beyond whole layers.
EXTRA = {
    "cli": {"freshet.engine.session", "freshet.__version__"}, "store": {"freshet.__version__"}, "pipelines": {"freshet.__version__"},
}  # fmt: skip
UNSAFE_IMPORTS = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
UNSAFE_ATTRIBUTES = {"yaml.load", "yaml.unsafe_load", "yaml.full_load", "os.system", "os.popen"}
CATCH_ALL = {"utils", "util", "common", "helpers", "helper", "base", "misc"}


def layer_of(module: str) -> str | None:
    """`freshet.kernels.mf` -> `kernels`; None for a module that no layer names."""
    words = module.split(".")
    name = words[1] if words[0] == "freshet" and len(words) > 1 else words[0]
    return next((key for key, found in LAYERS.items() if name in found.modules), None)


def violations(module: str, text: str) -> list[str]:
    """Every rule that the source of this module breaks, with its line."""
    own = layer_of(module)
    if own is None:
        return [f"{module} belongs to no layer"]
    tree = ast.parse(text)
    found = [f"{module}:{line} {what}" for line, what in unsafe(tree)]
    for line, name in imports(tree):
        if not allowed(own, name):
            found.append(f"{module}:{line} {own} may not import {name}")
    if CATCH_ALL & set(module.split(".")):
        found.append(f"{module} says nothing by its name")
    return found


def imports(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every imported module, wherever the import stands; `from freshet import x` is freshet.x."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if module.count(".") <= 1 and module.split(".")[0] == "freshet":
                yield from ((node.lineno, _imported(module, alias.name)) for alias in node.names)
            else:
                yield node.lineno, module


def _imported(module: str, name: str) -> str:
    is_module = (SOURCE.parent / Path(*module.split("."), f"{name}.py")).exists()
    return f"{module}.{name}" if is_module or module == "freshet" else module


def allowed(own: str, name: str) -> bool:
    rules, package = LAYERS[own], name.split(".")[0]
    if package == "freshet":
        other = layer_of(name)
        return other in rules.layers or name in EXTRA.get(own, ())
    if package in sys.stdlib_module_names:
        return package not in rules.not_standard
    return package in rules.packages


def unsafe(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Relative imports, and the ways to run what came as data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "relative import"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from ((node.lineno, f"import of {name}") for name in names if name.split(".")[0] in UNSAFE_IMPORTS)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                yield node.lineno, f"call of {node.func.id}"
            if any(key.arg == "shell" and getattr(key.value, "value", True) for key in node.keywords):
                yield node.lineno, "shell=True"
        if isinstance(node, ast.Attribute) and ast.unparse(node) in UNSAFE_ATTRIBUTES:
            yield node.lineno, ast.unparse(node)


def sources() -> list[tuple[str, Path]]:
    library = [(".".join(("freshet", *path.relative_to(SOURCE).with_suffix("").parts)), path)
               for path in sorted(SOURCE.rglob("*.py"))]  # fmt: skip
    jobs = [(f"jobs.{path.stem}", path) for path in sorted((ROOT / "jobs").glob("*.py"))]
    return [(module.removesuffix(".__init__"), path) for module, path in library if module != "freshet.__init__"] + jobs


@pytest.mark.parametrize(("module", "path"), sources(), ids=[module for module, _ in sources()])
def test_module_keeps_its_borders(module: str, path: Path) -> None:
    assert violations(module, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "text", "what"),
    [
        ("freshet.kernels.mf", "import pyspark", "kernels may not import pyspark"),
        ("freshet.kernels.mf", "def f():\n    import time", "kernels may not import time"),
        ("freshet.kernels.mf", "from freshet.models import MODELS", "kernels may not import freshet.models"),
        ("freshet.learner", "from pyspark.sql import DataFrame", "learning may not import pyspark.sql"),
        ("freshet.models.mf", "from freshet import store", "learning may not import freshet.store"),
        ("freshet.engine.clean", "from delta import DeltaTable", "engine may not import delta"),
        ("freshet.engine.clean", "import freshet.store.tables", "engine may not import freshet.store.tables"),
        ("freshet.store.tables", "from freshet.kernels import digest", "store may not import freshet.kernels"),
        ("freshet.store.tables", "import freshet.engine.session", "store may not import freshet.engine.session"),
        ("freshet.settings.layers", "import numpy", "settings may not import numpy"),
        ("freshet.pipelines.online", "import rich", "pipelines may not import rich"),
        ("freshet.cli.commands", "from freshet.store import tables", "cli may not import freshet.store"),
        ("freshet.cli.commands", "from freshet.engine import jars", "cli may not import freshet.engine.jars"),
        ("jobs.train", "from freshet.pipelines import online", "jobs may not import freshet.pipelines"),
        ("freshet.utils", "", "belongs to no layer"),
        ("freshet.store.helpers", "", "says nothing by its name"),
        ("freshet.store.tables", "from . import snapshots", "relative import"),
        ("freshet.store.tables", "import pickle", "import of pickle"),
        ("freshet.store.tables", "from cloudpickle import dumps", "import of cloudpickle"),
        ("freshet.store.tables", "eval('1')", "call of eval"),
        ("freshet.store.tables", "exec('1')", "call of exec"),
        ("freshet.settings.layers", "import yaml\nyaml.load('')", "yaml.load"),
        ("freshet.store.tables", "import subprocess\nsubprocess.run('ls', shell=True)", "shell=True"),
    ],
)  # fmt: skip
def test_broken_sample_is_found(module: str, text: str, what: str) -> None:
    assert any(what in found for found in violations(module, text)), violations(module, text)


def test_ordinary_samples_pass() -> None:
    assert violations("freshet.kernels.mf", "import math\nimport numpy as np\nfrom numba import njit") == []
    assert violations("freshet.cli.commands", "from freshet.engine.session import build") == []
    assert violations("freshet.store.tables", "import subprocess\nsubprocess.run(['ls'], shell=False)") == []


def test_jobs_are_short() -> None:
    jobs = {path.stem: path for path in (ROOT / "jobs").glob("*.py")}
    assert set(jobs) >= {"train", "recommend", "evaluate", "replay", "maintain"}
    for path in jobs.values():
        assert len(path.read_text(encoding="utf-8").splitlines()) < 60, path
