"""The commands that change what a model is: filled back, retrained, published, rolled back, kept small, removed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from freshet.cli.running import TIMES, Common, as_flags, run, show, with_common
from freshet.settings import check_source


@click.command()
@click.option("--from", "since", type=TIMES, metavar="TIME", required=True, help="Events from this time on, UTC.")
@click.option("--to", "until", type=TIMES, metavar="TIME", required=True, help="Events before this time, UTC.")
@click.option("--every", metavar="DURATION", help='Event time of a micro-batch, "1 hour" (setting stream.backfill_span).')
@with_common
def backfill(common: Common, since: datetime, until: datetime, every: str | None) -> None:
    """Learn old events of the source in the order of their times, before going live.

    It does not matter which file an event lies in. Started again it goes on where it was, and learns nothing twice. The stream
    that follows may read another source, or the same.

    \b
      freshet backfill --config shop.yaml --from 2026-09-01 --to 2026-11-21
      freshet backfill --config shop.yaml --set source.path=archive/ --from 2026-09-01 --to 2026-11-21 --every "6 hours"
    """

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import backfill as pipeline
        from freshet.terminal import progress

        table = progress(settings.stream.progress)
        return pipeline.backfill(spark, settings, since=since, until=until, listener=table, say=table.say)

    flags = as_flags(("--every", "stream.backfill_span", every))
    run(common, call, flags=flags, required=["source.path"], check=check_source, wait=True, makes=True)


@click.command()
@click.option("--from", "first", metavar="V", help="First version whose events are learned, or a time: since then.")
@click.option("--to", "last", metavar="W", help="Last version, or a time: up to then.")
@click.option("--start-from", type=int, metavar="V", help="Version whose weights it starts from (with retrain.start: warm).")
@click.option("--events", "path", metavar="PATH", help="Learn the events there instead, as the source's settings read them.")
@click.option("--reason", metavar="TEXT", default="asked for", help="Why; recorded with the decision.")
@with_common
def retrain(
    common: Common, first: str | None, last: str | None, start_from: int | None, path: str | None, reason: str,
) -> None:  # fmt: skip
    """Learn the `events` table in several passes.

    What comes out is a candidate: a version of a branch of its own, which nobody is served by before it is published. A
    learner may be running; it goes on.

    \b
      freshet retrain --config shop.yaml
      freshet retrain --from 100 --to "2026-11-21 06:00" --set retrain.passes=5
      freshet retrain --start-from 120 --set retrain.start=warm
      freshet retrain --events old-shop/ --set source.columns.item_id=article
    """
    if path is not None and (first is not None or last is not None):
        raise click.UsageError("--events takes all that is there: it does not go with --from or --to.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import retrain as pipeline
        from freshet.terminal import ProgressTable

        return pipeline.retrain(
            spark, settings, first=first, last=last, start_from=start_from, path=path, reason=reason, say=ProgressTable().say,
        )

    run(common, call, show=show, wait=True)


@click.command()
@click.option("--version", "version", type=int, required=True, metavar="V", help="The version lists shall be made from.")
@click.option("--force", is_flag=True, help="Do not ask the gate's rules.")
@click.option("--reason", metavar="TEXT", help="Why; required by --force. It stands in `decisions`.")
@with_common
def publish(common: Common, version: int, force: bool, reason: str | None) -> None:
    """Make lists from a version (with gate.publish manual or judged).

    The gate's rules must allow it: exit code 1 where they do not, and that is a row in `decisions` too. One commit, nothing is
    copied; where a learner runs it does this between two micro-batches.

    \b
      freshet publish --version 120 --set gate.publish=manual
      freshet publish --version 117 --force --reason "shop is closed on Sunday"
    """
    if force and not reason:
        raise click.UsageError("--force wants a --reason: it is recorded with the decision.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import publishing

        return publishing.publish_version(spark, settings, version=version, reason=reason, force=force)

    run(common, call, show=show)


@click.command()
@click.argument("challenger")
@click.option("--force", is_flag=True, help="Do not ask the gate's rules.")
@click.option("--reason", metavar="TEXT", help="Why; required by --force. It stands in `decisions`.")
@with_common
def promote(common: Common, challenger: str, force: bool, reason: str | None) -> None:
    """Put a challenger in the place of the model.

    The gate's rules must allow it, on what both have scored (`freshet challengers`): exit code 1 where they do not. One commit;
    learning goes on with the challenger's settings, which from the next start on your own settings must say.

    \b
      freshet promote quick
      freshet promote quick --force --reason "wins on the weekend"
    """
    if force and not reason:
        raise click.UsageError("--force wants a --reason: it is recorded with the decision.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import promoting
        from freshet.terminal import ProgressTable

        return promoting.promote_challenger(
            spark, settings, name=challenger, reason=reason, force=force, say=ProgressTable().say)

    run(common, call, show=show, wait=True)


@click.command()
@click.option("--to", "to", type=int, required=True, metavar="V", help="The version to go back to.")
@click.option("--reason", metavar="TEXT", required=True, help="Why; it stands in `decisions`.")
@click.option("--events", type=click.Choice(["skip", "relearn"]), default="skip", show_default=True,
              help="What becomes of the events learned since.")
@click.option("--where", metavar="CONDITION", help="With --events relearn: learn again only events for which this is true.")
@with_common
def rollback(common: Common, to: int, reason: str, events: str, where: str | None) -> None:
    """Go back to an older version and learn on from there.

    The versions between stay readable and are no longer part of the model. With --events relearn their micro-batches are
    learned again, but for the events that --where leaves out: the result is that of a model that never saw them. Where a
    learner runs it does this between two micro-batches.

    \b
      freshet rollback --to 117 --reason "a bad hour"
      freshet rollback --to 117 --reason "click farm" --events relearn --where "user_id not in ('u17', 'u18')"
    """
    if where is not None and events != "relearn":
        raise click.UsageError("--where goes with --events relearn.")

    def call(spark: Any, settings: Any) -> Any:
        from freshet.pipelines import rolling
        from freshet.terminal import ProgressTable

        return rolling.rollback(spark, settings, to=to, reason=reason, events=events, where=where, say=ProgressTable().say)

    run(common, call, show=show, wait=True)


@click.command()
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


@click.command()
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
