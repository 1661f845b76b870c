"""What is shipped: the wheel, the pins, `make` without Python or Java, and the jobs under spark-submit."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from deltalake import DeltaTable

from freshet import __version__
from freshet.demo.truth import World
from freshet.demo.writer import generate_all
from freshet.settings import default_text

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DELTA = "io.delta:delta-spark_4.2_2.13:4.4.0"


def run(*args: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(args, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload,no-any-return]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("lib", "conf", "jobs"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    readme = ROOT / "README.md"
    (source / "README.md").write_text(readme.read_text(encoding="utf-8") if readme.exists() else "", encoding="utf-8")
    done = run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
        "--wheel-dir", folder, source,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return next(folder.glob("freshet-*.whl"))


def test_wheel_holds_the_code_and_its_files(wheel: Path) -> None:
    assert wheel.name == f"freshet-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert archive.read("freshet/settings/default.yaml").decode() == default_text()
        points = next(name for name in names if name.endswith("entry_points.txt"))
        assert "freshet = freshet.cli:main" in archive.read(points).decode()
    shipped = [path for path in (ROOT / "lib" / "freshet").rglob("*") if path.suffix in {".py", ".yaml", ".properties"}]
    wanted = {path.relative_to(ROOT / "lib").as_posix() for path in shipped}
    assert wanted <= names
    assert not {name for name in names if "__pycache__" in name or name.startswith(("tests", "bench", "lib"))}


def test_wheel_works_without_the_repository(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = "import sys, freshet; from freshet.cli import main; sys.stderr.write(freshet.__file__); main(sys.argv[1:])"
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = run(sys.executable, "-c", code, "config", "show", "--origin", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stderr
    assert "model.shards = 8" in done.stdout


def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in entries}


def test_every_requirement_is_pinned() -> None:
    wanted = PROJECT["dependencies"] + [name for extra in PROJECT["optional-dependencies"].values() for name in extra]
    names = {re.sub(r"[-_.]+", "-", re.split(r"[<>=!~\[; ]", text)[0]).lower() for text in wanted}
    assert names - set(pins()) == set()
    assert (pins()["pyspark"], pins()["delta-spark"], pins()["pandas"][0]) == ("4.2.0", "4.4.0", "2")


def test_the_delta_jar_is_named_the_same_everywhere() -> None:
    from freshet.engine.jars import DELTA_JAR

    assert DELTA_JAR == DELTA
    assert DELTA_JAR in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(DELTA_JAR in path.read_text(encoding="utf-8") for path in (ROOT / "jobs").glob("*.py"))


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


@needs_make
def test_make_alone_prints_every_target() -> None:
    done = run("make", cwd=ROOT)
    assert done.returncode == 0
    for target in ("demo", "test", "lint", "type", "check", "bench", "soak", "package", "clean"):
        assert re.search(rf"^ +{target} +\S", done.stdout, re.MULTILINE), target


def tools(folder: Path, **scripts: str) -> str:
    """A PATH with what a bare system has, and these scripts."""
    for name in ("bash", "sh", "sed", "env", "make"):
        (folder / name).symlink_to(str(shutil.which(name)))
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    return str(folder)


@needs_make
@pytest.mark.parametrize("target", ["demo", "test"])
@pytest.mark.parametrize(
    ("scripts", "said"),
    [
        ({}, "Freshet needs Python 3.11 or newer"),
        ({"python3": "exit 1", "python": "exit 1"}, "apt install python3 python3-venv"),
        ({"python3": f'exec {sys.executable} "$@"'}, "Freshet needs Java 17 or newer"),
        ({"python3": f'exec {sys.executable} "$@"', "java": "echo 'version \"11.0.2\"' >&2"}, "openjdk@17"),
    ],
)
def test_make_names_what_is_missing(tmp_path: Path, target: str, scripts: dict[str, str], said: str) -> None:
    env = {"PATH": tools(tmp_path, **scripts), "HOME": str(tmp_path)}
    done = run(shutil.which("make") or "make", target, cwd=ROOT, env=env)
    assert done.returncode == 2
    sentences = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert len(sentences) == 1
    assert said in sentences[0]


def submitted(job: str, *words: str) -> tuple[int, str]:
    """A job under spark-submit: its exit code, and what it said."""
    submit = Path(sys.executable).with_name("spark-submit")
    program = str(submit) if submit.exists() else "spark-submit"
    env = {**os.environ, "PYTHONPATH": str(ROOT / "lib"), "PYSPARK_PYTHON": sys.executable}
    done = run(program, ROOT / "jobs" / f"{job}.py", *words, env=env)
    return done.returncode, done.stdout + done.stderr  # spark-submit puts both streams of Python into its standard output


@pytest.mark.soak
def test_jobs_under_spark_submit_learn_and_learn_again(tmp_path: Path) -> None:
    generate_all(World(users=50, items=20, seed=1, events=300), tmp_path / "events", 300, 100)
    sets = [f"--set={one}" for one in (
        f"store.root={tmp_path / 'model'}", f"source.path={tmp_path / 'events'}", "source.event_types=[click]", "model.name=mf",
        "spark.driver_memory=1g",
    )]  # fmt: skip
    code, said = submitted("train", "--available-now", *sets)
    assert (code, "caught up at version" in said) == (0, True), said[-2000:]
    rows = DeltaTable(str(tmp_path / "model" / "snapshots")).to_pyarrow_table(columns=["kind", "accepted_count"]).to_pylist()
    assert sum(row["accepted_count"] for row in rows) == 300 and {row["kind"] for row in rows} >= {"start", "learn"}
    code, said = submitted("replay", "--verify", *sets)
    assert (code, "verified" in said) == (0, True), said[-2000:]


@pytest.mark.slow
def test_a_job_under_spark_submit_keeps_the_exit_code() -> None:
    code, said = submitted("train", "--set", "model.factors=0")
    assert code == 2
    assert "model.factors: got 0, wanted at least 1" in said
    assert "source.path" in said
