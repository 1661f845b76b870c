"""What every command does: settings, Java, Spark session, one library call, exit code. Nothing starts before it may."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from freshet.arenas import one_arena
from freshet.errors import FreshetError
from freshet.printable import printable
from freshet.roots import check_root
from freshet.settings import Flag, Origins, Settings, load
from freshet.settings.secrets import redacted

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REFUSED = 2
TIMES = click.DateTime(("%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"))


@dataclass(frozen=True)
class Common:
    """The options that every command has."""

    configs: tuple[str, ...]
    sets: tuple[str, ...]
    debug: bool

    def settings(self, flags: Sequence[Flag] = (), required: Sequence[str] = ()) -> tuple[Settings, Origins]:
        """The settings of default.yaml, --config, environment, --set and `flags`, in this order."""
        return load(self.configs, os.environ, self.sets, flags=flags, required=required)


def with_common(command: Callable[..., None]) -> Callable[..., None]:
    """Add --config, --set and --debug; the command gets them as one `common`."""

    def wrapped(config: tuple[str, ...], sets: tuple[str, ...], debug: bool, **options: Any) -> None:
        common = Common(config, sets, debug or bool(os.environ.get("FRESHET_DEBUG")))
        with named_refusals(common.debug):
            command(common, **options)

    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
    click.option("--debug", is_flag=True, help="Show the traceback of an unexpected error.")(wrapped)
    click.option("--set", "sets", multiple=True, metavar="KEY=VALUE",
                 help="One setting, such as model.factors=32; may be repeated.")(wrapped)  # fmt: skip
    click.option("--config", multiple=True, metavar="FILE",
                 help="YAML file with settings; may be repeated, the later wins.")(wrapped)  # fmt: skip
    return wrapped


def run(
    common: Common,
    call: Callable[[SparkSession, Settings], Any],
    *,
    flags: Sequence[Flag] = (),
    required: Sequence[str] = (),
    check: Callable[[Settings, Origins, Mapping[str, str]], None] | None = None,
    show: Callable[[Any], None] | None = None,
    wait: bool = False,
    makes: bool = False,
    root: Callable[[Settings], str] = lambda settings: settings.store.root,
) -> None:
    """Settings -> Java -> Spark session -> `call` -> `show` what it returns; ends the process with an exit code.

    `check` may refuse settings in the light of the environment. An int that `call` returns is the exit code; anything
    else is shown and the exit code is 0. `wait` says what is being waited for (without it, only to a terminal). `makes`: there
    need not be a model yet. `root`: of the model, where it is not the setting's.
    """
    settings, origins = common.settings(flags, required)
    if check is not None:
        check(settings, origins, os.environ)
    store = settings.store.model_copy(update={"root": root(settings)})
    check_root(store.root, makes)
    tell_start(wait)
    with session(settings.model_copy(update={"store": store})) as spark:
        result = call(spark, settings)
    if isinstance(result, int) and not isinstance(result, bool):
        sys.exit(result)
    if show is not None and result is not None:
        show(result)


def tell_start(always: bool = False) -> None:
    """Say what takes the next seconds; to a person, unless `always`."""
    if always or sys.stderr.isatty():
        click.echo("Starting Spark.", err=True)


def as_flags(*options: tuple[str, str, str | None]) -> Sequence[Flag]:
    """The settings that were given by an option of their own: (option, key, text)."""
    return [(flag, key, text) for flag, key, text in options if text is not None]


def show(result: Any) -> None:
    """Print what a command found."""
    from freshet.terminal import print_result

    print_result(result)


def show_json(result: Any) -> None:
    """Print what a command found, for programs."""
    click.echo(json.dumps(result, indent=2, default=str))


@contextmanager
def session(settings: Settings) -> Iterator[SparkSession]:
    """A Spark session with the settings, stopped at the end; files it and this process create are as store.permissions says."""
    one_arena()
    umask = settings.store.umask
    if umask is not None:
        os.umask(umask)  # before Java starts, which takes it over
    spark = _session(settings)
    try:
        yield spark
    finally:
        spark.stop()


def _session(settings: Settings) -> SparkSession:
    from freshet.java import use_java

    use_java()
    from freshet.engine.session import build

    kafka = settings.source.format == "kafka" or bool(settings.sink.kafka.servers)
    return build(settings.spark, kafka=kafka, umask=settings.store.umask)


@contextmanager
def named_refusals(debug: bool) -> Iterator[None]:
    """Turn whatever goes wrong into one clear sentence on stderr and an exit code."""
    try:
        yield
    except FreshetError as error:
        click.echo(printable(redacted(str(error)), lines=True), err=True)  # a place may be an address with a password in it
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("Stopped.", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has had enough, as in `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (click.ClickException, click.exceptions.Exit):
        raise
    except Exception as error:
        if debug:
            click.echo(printable(redacted(traceback.format_exc()), lines=True), err=True)
        click.echo(printable(redacted(unexpected(error))) + ("" if debug else " The option --debug shows the traceback."), err=True)
        sys.exit(REFUSED)


def unexpected(error: BaseException) -> str:
    """One sentence for an error that nobody foresaw, without the stack traces of Java.

    >>> unexpected(ValueError("no such thing\\nand a second line"))
    'Unexpected ValueError: no such thing.'
    """
    kind, text = type(error).__name__, str(error)
    java = getattr(error, "java_exception", None)
    if java is not None:
        root = _root_cause(java)
        kind, text = root.getClass().getSimpleName(), root.getMessage() or ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0][:500].rstrip(".") if lines else "no message"
    return f"Unexpected {kind}: {first}."


def _root_cause(java: Any) -> Any:
    for _ in range(20):  # a chain of causes may be a ring
        cause = java.getCause()
        if cause is None:
            break
        java = cause
    return java
