"""The commands: each turns its options into settings and one library call (the docstrings are what --help prints)."""

from __future__ import annotations

from typing import Any

import click

from freshet import __version__
from freshet.cli import asking, keeping
from freshet.cli.running import Common, as_flags, run, show, with_common
from freshet.program import program
from freshet.settings import check_source, default_text, lines


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="freshet")
def main() -> None:
    """Online learning for recommenders on Spark Structured Streaming and Delta Lake.

    Every setting has a default; `freshet config show --origin` prints them all. A first look needs no data:

    \b
      freshet demo

    With data of your own, say where it is and what its columns are called:

    \b
      freshet train --set source.path=events/ --set source.columns.item_id=article --available-now
      freshet status
      freshet recommend --user 42 -n 10
    """


@main.command()
@click.option("--quick", is_flag=True, help="A short run with fewer events.")
@click.option("--model", metavar="NAME", help="Model to learn: blend, rating, ... (setting model.name).")
@with_common
def demo(common: Common, quick: bool, model: str | None) -> None:
    """Watch a recommender learn from a generated stream.

    Users and items with planted tastes, some dirt, and tastes that change half-way. Everything lands in demo.out.

    \b
      freshet demo --quick
      freshet demo --model mf --set demo.users=5000
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import showcase
        from freshet.terminal import ProgressTable

        return showcase.demo(spark, settings, quick=quick, listener=ProgressTable())

    run(common, call, flags=as_flags(("--model", "model.name", model)), wait=True)


@main.command()
@click.option("--trigger", metavar="DURATION", help='Time between micro-batches, "5 seconds" (setting stream.trigger).')
@click.option("--available-now", is_flag=True, help="Learn what is there and end, for schedulers.")
@click.option("--adopt-checkpoint", is_flag=True, help="Go on although the checkpoint does not belong to the tables.")
@click.option("--from-here", is_flag=True, help="Any checkpoint will do; what the source holds now is passed by unread.")
@click.option("--skip-batch", type=int, metavar="N", help="Do not learn micro-batch N; the decision is recorded.")
@click.option("--reason", metavar="TEXT", help="Why; required by --skip-batch and --from-here.")
@with_common
def train(
    common: Common, trigger: str | None, available_now: bool, adopt_checkpoint: bool, from_here: bool,
    skip_batch: int | None, reason: str | None,
) -> None:  # fmt: skip
    """Learn from the source, for ever or until caught up.

    Ctrl-C and SIGTERM end it between two micro-batches; started again, it goes on where it was.

    \b
      freshet train --config shop.yaml --trigger "5 seconds"
      freshet train --config shop.yaml --available-now
      freshet train --config shop.yaml --skip-batch 17 --reason "prices in cents"
      freshet train --config shop.yaml --from-here --reason "checkpoint lost, history is learned"
    """
    if (skip_batch is not None or from_here) and not reason:
        raise click.UsageError("--skip-batch and --from-here want a --reason: it is recorded with the decision.")
    if reason and skip_batch is None and not from_here:
        raise click.UsageError("--reason belongs to --skip-batch or --from-here.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import online
        from freshet.terminal import ProgressTable

        table = ProgressTable()
        return online.train(
            spark, settings, available_now=available_now, adopt_checkpoint=adopt_checkpoint, from_here=from_here,
            skip_batch=skip_batch, reason=reason, listener=table, announce=table.say,
        )  # fmt: skip

    flags = as_flags(("--trigger", "stream.trigger", trigger))
    run(common, call, flags=flags, required=["source.path"], check=check_source, wait=True)


@main.command()
@click.option("--verify", is_flag=True, help="Compare the digest of every version with the recorded one.")
@click.option("--from", "from_version", type=int, metavar="V", help="First version to learn again.")
@click.option("--to", "to_version", type=int, metavar="W", help="Last version to learn again.")
@with_common
def replay(common: Common, verify: bool, from_version: int | None, to_version: int | None) -> None:
    """Learn again from the `events` table.

    With --verify the digests are compared, and the exit code is 1 when one differs.

    \b
      freshet replay --verify
      freshet replay --verify --from 100 --to 120
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import replay as pipeline

        return pipeline.replay(spark, settings, verify=verify, from_version=from_version, to_version=to_version)

    run(common, call, show=show)


<<<<<<< HEAD
for _command in (
    asking.recommend, asking.explain, asking.status, asking.decisions, asking.sql,
    keeping.publish, keeping.rollback, keeping.maintain, keeping.reset,
):
    main.add_command(_command)
=======
@main.command()
@click.option("--from", "first", metavar="V", help="First version whose events are learned, or a time: since then.")
@click.option("--to", "last", metavar="W", help="Last version, or a time: up to then.")
@click.option("--start-from", type=int, metavar="V", help="Version whose weights it starts from (with retrain.start: warm).")
@click.option("--reason", metavar="TEXT", default="asked for", help="Why; recorded with the decision.")
@click.option("--differences", metavar="FILE", help="Write how far each row lies from the online model's, as Parquet.")
@with_common
def retrain(
    common: Common, first: str | None, last: str | None, start_from: int | None, reason: str, differences: str | None
) -> None:
    """Learn the `events` table in several passes.

    What comes out is a candidate: a version of a branch of its own, which nobody is served by before it is published. A
    learner may be running; it goes on.

    \b
      freshet retrain --config shop.yaml
      freshet retrain --from 100 --to "2026-11-21 06:00" --set retrain.passes=5
      freshet retrain --start-from 120 --set retrain.start=warm
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import retrain as pipeline
        from freshet.terminal import ProgressTable

        return pipeline.retrain(
            spark, settings, first=first, last=last, start_from=start_from, reason=reason, differences=differences,
            say=ProgressTable().say,
        )

    run(common, call, show=show, wait=True)


@main.command()
@click.option("--compact", is_flag=True, help="Write a base: the whole state at the newest version, verified.")
@click.option("--orphans", is_flag=True, help="Remove rows of attempts that never became a version.")
@click.option("--retention", is_flag=True, help="Remove log rows below a base, older than store.log_retention.")
@with_common
def maintain(common: Common, compact: bool, orphans: bool, retention: bool) -> None:
    """Keep the tables small.

    Without an option all three are done. A learner may be running.

    \b
      freshet maintain
      freshet maintain --compact --set store.root=models/shop
    """
    every = not (compact or orphans or retention)

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import maintain as pipeline

        return pipeline.maintain(
            spark, settings, compact=compact or every, orphans=orphans or every, retention=retention or every
        )

    run(common, call, show=show)


@main.command()
@click.option("--yes", is_flag=True, help="Really do it.")
@with_common
def reset(common: Common, yes: bool) -> None:
    """Remove a model with its tables and checkpoint.

    Without --yes it only says what would go.

    \b
      freshet reset --set store.root=models/shop --yes
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import reset as pipeline

        return pipeline.reset(spark, settings, yes=yes)

    run(common, call, show=show)


for _asking in (asking.recommend, asking.explain, asking.status, asking.sql):
    main.add_command(_asking)
>>>>>>> 415410c (Retraining as a candidate, normalised values, starts from alternating least squares, distances of rows)


@main.group()
def config() -> None:
    """Look at the settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Also say where each value came from.")
@with_common
def config_show(common: Common, origin: bool) -> None:
    """Print every setting as it would be used, secrets redacted.

    \b
      freshet config show --origin --config shop.yaml --set model.factors=32
    """
    settings, origins = common.settings()
    for line in lines(settings, origins if origin else None):
        click.echo(line)


@config.command("default")
def config_default() -> None:
    """Print default.yaml: every setting with its reason, to start a file of your own from.

    \b
      freshet config default > shop.yaml
    """
    click.echo(default_text(), nl=False)


if program() != "freshet":  # the examples of --help are there to be pasted
    for _command in (main, *main.commands.values(), *config.commands.values()):
        _command.epilog = f"PATH has no freshet here: type {program()}, or activate its environment first."
