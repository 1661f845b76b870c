"""What is installed is pinned by its sha256: constraints.txt, requirements/*.lock, pyproject.toml and Makefile say the same."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
HASH = re.compile(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def loaded(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make = loaded("requirements/make.py")
jars = loaded("tests/kafka/pinned.py")
PINS = make.pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
TEXTS = {lock: (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8") for lock in make.LOCKS}


def faults(texts: dict[str, str], pins: dict[str, str]) -> list[str]:
    """Everything that is wrong with these lock files."""
    found, seen = [], set()
    for lock, text in texts.items():
        for name, block in make.entries(text).items():
            lines = block.rstrip().splitlines()
            version = make.ENTRY.match(block)["version"]
            if version != pins.get(name) or name in seen:
                found.append(f"{lock}: {name} {version}")
            if len(lines) < 2 or not all(HASH.fullmatch(line) for line in lines[1:]):
                found.append(f"{lock}: {name} without hashes")
            seen.add(name)
        if re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host|\.(org|com|io|net)\b", text):
            found.append(f"{lock}: a host")
        strays = [line for line in text.splitlines() if line and line[0] not in "# " and not make.ENTRY.match(line)]
        found += [f"{lock}: {line}" for line in strays]
    return found + [f"{name} in no lock" for name in sorted(set(pins) - seen)]


def test_every_pin_has_its_hashes_in_one_lock() -> None:
    assert set(TEXTS) == {path.stem for path in (ROOT / "requirements").glob("*.lock")}
    assert faults(TEXTS, PINS) == []


GOOD = "click==1\n    --hash=sha256:" + 64 * "a" + "\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("click==1\n", "without hashes"), (GOOD.replace("aa", "a", 1), "without hashes"), (GOOD.replace("sha256", "md5"), "without hashes"),
        (GOOD.replace("==1", "==2"), "click 2"), (GOOD.replace("click", "clock"), "click in no lock"), (GOOD + GOOD.replace("click", "zipp"), "zipp 1"),
        ("--index-url https://example.test/simple\n" + GOOD, "a host"), ("click @ file:///tmp/click.whl\n", "click @ file"),
    ],
)  # fmt: skip
def test_a_lock_with_a_fault_is_found(text: str, fault: str) -> None:
    assert faults({"run": GOOD}, {"click": "1"}) == []
    assert any(fault in one for one in faults({"run": text}, {"click": "1"})), faults({"run": text}, {"click": "1"})


def names(requirements: list[str]) -> set[str]:
    return {make.plain(re.split(r"[<>=!~\[; ]", text)[0]) for text in requirements}


def test_a_lock_has_what_its_extra_asks_for() -> None:
    """With the locks before it: all that is asked for by name; what those ask for in turn is the resolver's word."""
    there: set[str] = set()
    for lock in make.LOCKS:
        there |= set(make.entries(TEXTS[lock]))
        assert names(make.wishes(lock).splitlines()) <= there, lock
    asked = {name for extra in PROJECT["optional-dependencies"].values() for name in names(extra)}
    assert asked | names(PROJECT["dependencies"]) <= there
    assert not set(PROJECT["optional-dependencies"]) - set(make.LOCKS) - {"plot"}  # matplotlib is in test


def test_what_is_installed_is_what_is_pinned() -> None:
    def others(pinned: dict[str, str]) -> list[str]:
        return [name for name, wanted in pinned.items() if importlib.metadata.version(name) != wanted]

    here = {name: PINS[name] for lock in ("run", "test") for name in make.entries(TEXTS[lock])}
    assert len(here) > 50 and others(here) == []
    assert others({"click": "1"}) == ["click"]


def test_shares_build_on_each_other_and_miss_nothing() -> None:
    wanted = {"run": "a==1\n", "test": "a==1\nb==2 ; python_version < '3.12'\ncolorama==3 ; sys_platform == 'win32'\n"}
    assert make.shares(wanted, {"a": "1", "b": "2"}) == {"run": ["a"], "test": ["b"]}
    with pytest.raises(SystemExit, match="wanted by test: b"):
        make.shares(wanted, {"a": "1"})
    with pytest.raises(SystemExit, match="wanted by nothing: c"):
        make.shares(wanted, {"a": "1", "b": "2", "c": "3"})


def unpinned(makefile: str) -> list[str]:
    """Lines of a Makefile that may install what has no hash."""
    lines = [line for line in makefile.replace("\\\n", " ").splitlines() if re.search(r"pip\)? .*install|\$\(PIP\) install", line)]
    return [line for line in lines if "--require-hashes" not in line and not ("--no-index" in line and "--no-deps" in line)]


def test_make_installs_with_hashes_only() -> None:
    assert unpinned(MAKEFILE) == []
    assert MAKEFILE.count("$(LOCKED) ") >= 5  # build, run and test, bench, vowpalwabbit, audit
    assert all(f"requirements/{lock}.lock" in MAKEFILE for lock in make.LOCKS)
    for line in ("\t@$(PIP) install --editable .", "\t.venv/bin/python -m pip install \\\n  numpy"):
        assert unpinned(line) != []


def test_jars_of_the_tests_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {name.split("/")[0] for name in jars.pinned()} == {"broker", "connector"}
    (tmp_path / "broker").mkdir()
    (tmp_path / "broker" / "a.jar").write_bytes(b"a")
    monkeypatch.setattr(jars, "LIST", tmp_path / "jars.sha256")
    jars.LIST.write_text("".join(f"{digest}  {name}\n" for name, digest in jars.found(tmp_path).items()), encoding="utf-8")
    assert jars.differences(tmp_path) == []
    (tmp_path / "broker" / "a.jar").write_bytes(b"b")
    (tmp_path / "broker" / "b.jar").write_bytes(b"b")
    assert jars.differences(tmp_path) == ["broker/a.jar", "broker/b.jar"]
    assert "pinned.py .venv/kafka" in MAKEFILE
