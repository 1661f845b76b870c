"""The commands that ask a model and change nothing that it has learned."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from freshet.cli.running import TIMES, Common, run, session, show, show_json, tell_start, with_common
from freshet.errors import EngineRefused
from freshet.printable import printable


@click.command()
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
    context = _context(given, user)

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import recommend as pipeline

        if user is not None:
            found = pipeline.recommend_user(spark, settings, user=user, n=n, context=context)
            if found and {row.get("reason") for row in found} <= {"popularity", "segment"}:
                click.echo("The model knows no more of this user than of a newcomer.", err=True)
            return found
        return pipeline.recommend_batch(spark, settings, n=n, touched_since=touched_since)

    run(common, call, show=show)


@click.command()
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
    context = _context(given, user)

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import explain as pipeline

        found = pipeline.explain(spark, settings, item=item, user=user, context=context)
        return found if as_json else pipeline.in_words(found)

    run(common, call, show=show_json if as_json else show)


@click.command()
@click.option("--version", type=int, metavar="V", help="The version to judge (default: the newest).")
@click.option("--against", type=int, metavar="W", help="Hold it against another version on the same events.")
@click.option("--from", "since", type=TIMES, metavar="TIME", help="Events from this time on, UTC.")
@click.option("--to", "until", type=TIMES, metavar="TIME", help="Events before this time, UTC.")
@click.option("--events", "path", metavar="PATH", help="Events in files or a Delta table, read as source.* and clean.* say.")
@click.option("--by", type=click.Choice(["event", "user"]), default="event", show_default=True,
              help="Each event by itself, or for each user one list against all he took.")
@click.option("-k", "k", type=click.IntRange(1, 10_000), help="Length of lists (default: metrics.k).")
@click.option("--threshold", type=float, help="Yes is a probability (default .5) or a value (default model.positive_from) of this.")
@click.option("--candidates", type=click.IntRange(1), metavar="N", help="Rank against N items drawn by seed, not against all.")
@click.option("--sample", type=click.IntRange(0), default=0, metavar="N", help="Rank N events drawn by seed, not all.")
@click.option("--slice", "columns", multiple=True, metavar="COLUMN",
              help="Slice by this column of the context (default: those of model.features.context); repeatable.")
@click.option("--save", is_flag=True, help="Keep the figures, as rows of the table `evaluations`.")
@click.option("--json", "as_json", is_flag=True, help="Every figure as JSON, for programs.")
@with_common
def evaluate(
    common: Common, since: datetime | None, until: datetime | None, columns: tuple[str, ...], path: str | None, as_json: bool,
    **options: Any,
) -> None:
    """Judge a version on events it has not learned.

    Those learned after it, or of a span of time, or from elsewhere. Beside it stand popularity, the differences and their
    intervals.

    \b
      freshet evaluate --version 120 --save
      freshet evaluate --version 120 --against 100 --by user -k 20
      freshet evaluate --events holdout/ --slice device --json
    """
    if path is not None and (since or until):
        raise click.UsageError("--events says which events; --from and --to go without it.")
    if columns and options["by"] == "user":
        raise click.UsageError("--slice parts events, and --by user has users.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import evaluate as pipeline

        start, end = (None if at is None else at.replace(tzinfo=UTC) for at in (since, until))
        found = pipeline.evaluate(spark, settings, since=start, until=end, path=path, columns=columns, **options)
        return found if as_json else pipeline.in_words(found)

    run(common, call, show=show_json if as_json else show)


@click.command()
@click.option("--points", type=click.IntRange(1, 1000), default=20, show_default=True, help="Most points of a curve.")
@click.option("--curve", is_flag=True, help="Print the curves: means of both over spans of micro-batches.")
@click.option("--plot", metavar="FILE", help="Draw the curves into this .svg, .png or .pdf (needs freshet[plot]).")
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, for programs.")
@with_common
def challengers(common: Common, points: int, curve: bool, plot: str | None, as_json: bool) -> None:
    """Hold the challengers against the model.

    A challenger learns the same micro-batches with other settings (challengers.learners). Both are scored on each before they
    learn it; what is shown is the mean of that, the difference as a share with its interval, and what the gate's rules say.

    \b
      freshet challengers
      freshet challengers --curve --plot curves.svg
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.picture import draw
        from freshet.pipelines import comparing

        found = comparing.challengers(spark, settings, points=points)
        if plot is not None:
            draw(found, Path(plot))
        if curve and not as_json:
            return [{"challenger": one["challenger"], **point} for one in found for point in one["curve"]]
        return found if as_json else comparing.in_words(found)

    run(common, call, show=show_json if as_json else show)


@click.command()
@click.option("--deep", is_flag=True, help="Also compute the digest of the newest version from its rows.")
@with_common
def doctor(common: Common, deep: bool) -> None:
    """Look whether everything a learner needs is there and fits together.

    Java, compiled code, disk, clock and lock of the model; Spark and Delta, by a table that is written and read back where
    the model is; checkpoint, versions, orphaned rows and open requests. A line each with what to do; the exit code is 1 when
    one fails.

    \b
      freshet doctor --config shop.yaml
      freshet doctor --config shop.yaml --deep
    """
    from freshet.pipelines import doctor as pipeline

    settings, _ = common.settings()
    failed = False

    def tell(checks: Iterable[Any]) -> None:
        nonlocal failed
        for check in checks:
            click.echo(printable(str(check), lines=True))
            failed = failed or check.state == pipeline.FAIL

    tell(pipeline.of_machine(settings))
    tell_start()
    try:
        with session(settings) as spark:
            tell(pipeline.of_storage(spark, settings))
            tell(pipeline.of_model(spark, settings, deep))
    except EngineRefused as refused:  # no Java, no jar, or not the one it should be: an answer too
        tell([pipeline.Check("spark", pipeline.FAIL, refused.what, refused.remedy or "")])
    if failed:
        sys.exit(1)


@click.command()
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

    run(common, call, show=show_json if as_json else show)


@click.command()
@click.option("-n", "n", type=click.IntRange(1, 100_000), default=20, show_default=True, help="So many of the newest.")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for programs, with the numbers each rests on.")
@with_common
def decisions(common: Common, n: int, as_json: bool) -> None:
    """Tell what was decided, by whom and why; the newest last.

    What was published, held or refused by the gate, rolled back, skipped, maintained; what the strategy saw and did. Decisions
    of versions that were left behind by a rollback are among them.

    \b
      freshet decisions
      freshet decisions -n 1 --json
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import status as pipeline

        return pipeline.decided(spark, settings, n=n, evidence=as_json) or ([] if as_json else "Nothing was decided yet.")

    run(common, call, show=show_json if as_json else show)


@click.command()
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

    run(common, call, show=show)


def _context(given: Sequence[str], user: str | None) -> dict[str, str]:
    if given and (user is None or not all("=" in text for text in given)):
        raise click.UsageError("--context COLUMN=VALUE goes with --user ID.")
    return dict(text.split("=", 1) for text in given)
