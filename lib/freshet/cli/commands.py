"""The commands: each turns its options into settings and one library call (the docstrings are what --help prints)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from freshet import __version__
from freshet.cli.running import Common, run, with_common
from freshet.program import program
from freshet.settings import Flag, check_source, default_text, lines


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

    run(common, call, flags=_flags(("--model", "model.name", model)), wait=True)


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

    flags = _flags(("--trigger", "stream.trigger", trigger))
    run(common, call, flags=flags, required=["source.path"], check=check_source, wait=True)


@main.command()
@click.option("--user", metavar="ID", help="Print the list of this user.")
@click.option("-n", "n", type=click.IntRange(1, 10_000), default=10, show_default=True, help="Items in a list.")
@click.option("--context", "given", multiple=True, metavar="COLUMN=VALUE",
              help="Ask in this context instead of that of the user's last event (with model.features.context); repeatable.")
@click.option("--all", "everyone", is_flag=True, help="Write the lists of all users into `recommendations`.")
@click.option("--touched-since", type=int, metavar="VERSION", help="Write those of users that learned something since.")
@with_common
def recommend(
    common: Common, user: str | None, n: int, given: tuple[str, ...], everyone: bool, touched_since: int | None
) -> None:
    """Recommend from the tables; no stream needs to run.

    \b
      freshet recommend --user 42 -n 10
      freshet recommend --user 42 --context device=phone
      freshet recommend --all -n 50 --set lists.category_cap=3
      freshet recommend --touched-since 120
    """
    if sum([user is not None, everyone, touched_since is not None]) != 1:
        raise click.UsageError("Say for whom: --user ID, --all or --touched-since VERSION.")
    if given and (user is None or not all("=" in text for text in given)):
        raise click.UsageError("--context COLUMN=VALUE goes with --user ID.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import recommend as pipeline

        if user is not None:
            return pipeline.recommend_user(spark, settings, user=user, n=n, context=dict(text.split("=", 1) for text in given))
        return pipeline.recommend_batch(spark, settings, n=n, touched_since=touched_since)

    run(common, call, show=_show)


@main.command()
@click.option("--item", metavar="ID", required=True, help="The item in question.")
@click.option("--user", metavar="ID", help="Why it stands where it stands in this user's list.")
@click.option("--context", "given", multiple=True, metavar="COLUMN=VALUE", help="As for recommend; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@with_common
def explain(common: Common, item: str, user: str | None, given: tuple[str, ...], as_json: bool) -> None:
    """Say what a score is made of, and which micro-batches made it so.

    Of a user and an item every row that adds to the score, with its amount and its last changes. Of an item alone its
    neighbours, and what moved it most in the last day.

    \b
      freshet explain --user 42 --item 1193
      freshet explain --item 1193 --json
    """
    if given and (user is None or not all("=" in text for text in given)):
        raise click.UsageError("--context COLUMN=VALUE goes with --user ID.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import explain as pipeline

        found = pipeline.explain(spark, settings, item=item, user=user, context=dict(text.split("=", 1) for text in given))
        return found if as_json else pipeline.in_words(found)

    run(common, call, show=_show_json if as_json else _show)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
@with_common
def status(common: Common, as_json: bool) -> None:
    """Say how the model is, in one word and in numbers.

    Newest version, its age, lag, the last micro-batch, and health with its reason.

    \b
      freshet status
      freshet status --json | jq .health
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import status as pipeline

        return pipeline.status(spark, settings)

    run(common, call, show=_show_json if as_json else _show)


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

    run(common, call, show=_show)


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

    run(common, call, show=_show)


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

    run(common, call, show=_show)


@main.command()
@click.argument("query")
@click.option("--as-of", type=int, metavar="VERSION", help="Parameters as they were at this version.")
@with_common
def sql(common: Common, query: str, as_of: int | None) -> None:
    """Ask the tables in SQL.

    Every table of the model is a view, and so are its parameters, current or as of a version.

    \b
      freshet sql "select version, kind, accepted_count from snapshots order by version desc limit 5"
      freshet sql "select * from parameters where block = 'item' limit 5" --as-of 120
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import query as pipeline

        return pipeline.sql(spark, settings, query=query, as_of=as_of)

    run(common, call, show=_show)


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


def _flags(*options: tuple[str, str, str | None]) -> Sequence[Flag]:
    return [(flag, key, text) for flag, key, text in options if text is not None]


def _show(result: Any) -> None:
    from freshet.terminal import print_result

    print_result(result)


def _show_json(result: Any) -> None:
    click.echo(json.dumps(result, indent=2, default=str))
