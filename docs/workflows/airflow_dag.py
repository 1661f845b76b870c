"""A day of a Freshet model under Airflow 2.4 or newer: a template to copy into the folder of DAGs and change.

    version ─▶ train ─▶ recommend ─▶ retrain ─▶ maintain
                 └────▶ evaluate

Exit codes of freshet: 0 done; 1 ran to its end and a gate or check said no, so the task is skipped and what follows it
still runs; 2 refused or crashed, so it is tried again and then fails, and nothing follows. The gate looks while `train` learns:
it holds what is worse, which is a row in `decisions` and no failure.

Every task may be started twice, cleared, or killed: what was committed is passed by, and what was not is done again. Airflow
ends a task by SIGTERM, which lets a micro-batch that is running finish its commit.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow import DAG

try:
    from airflow.providers.standard.operators.bash import BashOperator  # a part of Airflow 3 itself
except ImportError:
    from airflow.operators.bash import BashOperator

CONFIG = "/etc/freshet/shop.yaml"
BIN = "/opt/freshet/.venv/bin"
GATE_SAID_NO = 1

with DAG(
    dag_id="freshet_shop",
    schedule="0 3 * * *",
    start_date=datetime(2026, 1, 1),
    catchup=False,  # a run learns all there is, whatever day it is for
    max_active_runs=1,  # one writer: a second learner would be refused with exit code 2
    default_args={"retries": 2, "retry_delay": timedelta(minutes=10)},
) as dag:

    def job(name: str, command: str, **more: object) -> BashOperator:
        """One command; its last line of output is handed on to the tasks after it."""
        return BashOperator(
            task_id=name, bash_command=f"set -o pipefail; export PATH={BIN}:$PATH; {command}", skip_on_exit_code=GATE_SAID_NO,
            do_xcom_push=True, **more,
        )

    # What lists were made from until now: judged by what is learned next, which it has not seen. A new model has none.
    version = job("version", f"freshet status --config {CONFIG} --json | jq '.published // empty' || exit 1")

    # The gate (gate.publish: judged) looks while it learns; a candidate of an earlier night catches up here and is decided about.
    train = job("train", f"freshet train --config {CONFIG} --available-now", trigger_rule="none_failed")

    # A report that nothing waits for. A day without events, and the first, have nothing to judge by.
    evaluate = job(
        "evaluate", f"freshet evaluate --config {CONFIG} --version '{{{{ ti.xcom_pull(task_ids=\"version\") }}}}' --json || exit 1")

    # From the published version, whatever the gate held.
    recommend = job("recommend", f"freshet recommend --config {CONFIG} --all -n 50", trigger_rule="none_failed")

    # Several passes over the events of the last four weeks: a candidate beside the line that learns.
    retrain = job(
        "retrain", f"freshet retrain --config {CONFIG} --from '{{{{ macros.ds_add(ds, -28) }}}}' --reason nightly",
        trigger_rule="none_failed")

    maintain = job("maintain", f"freshet maintain --config {CONFIG}", trigger_rule="none_failed")

    version >> train >> recommend >> retrain >> maintain
    train >> evaluate
