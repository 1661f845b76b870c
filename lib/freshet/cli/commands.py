"""The commands: each turns its options into settings and one library call (the docstrings are what --help prints)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from freshet import __version__
from freshet.cli import asking, keeping
from freshet.cli.running import Common, as_flags, run, show, with_common
from freshet.program import program
from freshet.settings import check_source, default_text, lines

KAFKA = {"format": "kafka", "kafka.servers": "[localhost:9092]", "kafka.topics": "[events]"}


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
@click.option("--kafka", metavar="FOLDER", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Through a broker of Kafka whose jars are there (`make demo-kafka` brings them).")  # fmt: skip
@with_common
def demo(common: Common, quick: bool, model: str | None, kafka: Path | None) -> None:
    """Watch a recommender learn from a generated stream.

    Users and items with planted tastes, some dirt, and tastes that change half-way. Everything lands in demo.out.

    \b
      freshet demo --quick
      freshet demo --model mf --set demo.users=5000
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import showcase
        from freshet.terminal import progress

        return showcase.demo(spark, settings, quick=quick, listener=progress(settings.stream.progress), kafka=kafka)

    # Where the broker will listen is not known yet.
    topic = [("--kafka", f"source.{name}", text) for name, text in KAFKA.items()] if kafka else []
    run(common, call, flags=as_flags(("--model", "model.name", model), *topic), wait=True, makes=True,
        root=lambda settings: f"{settings.demo.out}/model")


@main.command()
@click.option("--trigger", metavar="DURATION", help='Time between micro-batches, "5 seconds" (setting stream.trigger).')
@click.option("--available-now", is_flag=True, help="Learn what is there and end, for schedulers.")
@click.option("--adopt-checkpoint", is_flag=True, help="Go on although the checkpoint does not belong to the tables.")
@click.option("--from-here", is_flag=True, help="Any checkpoint will do; what the source holds now is passed by unread.")
@click.option("--skip-batch", type=int, metavar="N", help="Do not learn micro-batch N; the decision is recorded.")
@click.option("--reason", metavar="TEXT", help="Why; required by --skip-batch and --from-here.")
@click.option("--json", "as_json", is_flag=True, help="A line of JSON for each micro-batch and message (setting stream.progress).")
@with_common
def train(
    common: Common, trigger: str | None, available_now: bool, adopt_checkpoint: bool, from_here: bool,
    skip_batch: int | None, reason: str | None, as_json: bool,
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
        from freshet.terminal import progress

        table = progress(settings.stream.progress)
        return online.train(
            spark, settings, available_now=available_now, adopt_checkpoint=adopt_checkpoint, from_here=from_here,
            skip_batch=skip_batch, reason=reason, listener=table, announce=table.say,
        )  # fmt: skip

    flags = as_flags(("--trigger", "stream.trigger", trigger), ("--json", "stream.progress", "json" if as_json else None))
    run(common, call, flags=flags, required=["source.path"], check=check_source, wait=True, makes=True)


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


for _command in (
    asking.recommend, asking.explain, asking.evaluate, asking.challengers, asking.status, asking.decisions, asking.sql,
    asking.doctor,
    keeping.backfill, keeping.retrain, keeping.publish, keeping.promote, keeping.rollback, keeping.maintain, keeping.reset,
):
    main.add_command(_command)


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
