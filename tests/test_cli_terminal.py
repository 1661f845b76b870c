"""The progress table: which micro-batches get a line, and that cumulative and recent figures are the sums they say."""

from __future__ import annotations

import io
import unicodedata
from dataclasses import replace

import pyarrow as pa
import pytest

from freshet.cli.running import named_refusals
from freshet.errors import FreshetError
from freshet.report import BatchReport, Metric
from freshet.terminal import COLUMNS, LEGEND, ProgressTable, Sums, lag_text, print_result

WIDTH = sum(width for _, width in COLUMNS) + len(COLUMNS) - 1


def report(number: int, metrics: tuple[Metric, ...] = (), note: str = "", refused: int = 1) -> BatchReport:
    return BatchReport(
        version=number, kind="learn", batch_id=number, read=1000, accepted=1000 - refused, quarantined=refused,
        duplicate=0, late=0, seconds=0.5, lag_seconds=1.0, users=10, items=5, metrics=metrics, note=note,
    )  # fmt: skip


def printed(reports: list[BatchReport]) -> list[str]:
    out = io.StringIO()
    table = ProgressTable(out)
    for one in reports:
        table(one)
    return out.getvalue().splitlines()


def lines(text: list[str]) -> list[str]:
    return [line for line in text if line[:7].strip().isdigit()]


def metric(name: str, total: float, scoring: str = "served", learner: str = "bpr", which: str = "all") -> Metric:
    return Metric(name, scoring, learner, which, total, 100)


def test_lines_on_doubling_batches_and_on_notes() -> None:
    notes = {5: "drift", 11: "refused"}
    text = lines(printed([report(number, note=notes.get(number, "")) for number in range(1, 21)]))
    assert [int(line.split()[0]) for line in text] == [1, 2, 4, 5, 8, 11, 16]
    assert [line.split()[-1] for line in text if int(line.split()[0]) in notes] == ["drift", "refused"]


def test_the_last_batch_has_a_line_before_what_is_said_after_it() -> None:
    out = io.StringIO()
    table = ProgressTable(out)
    for number in range(1, 7):
        table(report(number))
    table.say("caught up")
    table.say("and that was it")
    assert [line.split()[0] for line in out.getvalue().splitlines()[len(LEGEND):]] == ["batch", "1", "2", "4", "6", "caught", "and"]


def test_number_and_counts_go_on_over_restarts() -> None:
    later = replace(report(41), so_far={"read": 42_000, "accepted": 41_900, "quarantined": 77})
    assert lines(printed([later]))[0].split()[:3] == ["41", "42,000", "77"]


def test_legend_and_header_once_and_measures_where_they_change() -> None:
    first, later = (metric("logloss", 60.0, "sequential"),), (metric("logloss", 60.0), metric("recall@10", 5.0))
    text = printed([report(1, first), report(2, later), report(4, later, note="drift"), report(5, note="x")])
    assert tuple(text[:2]) == LEGEND and text[2].split()[0] == "batch"
    assert sum(line.split()[0] == "batch" and "lag" in line for line in text[2:]) == 1
    notes = [line[WIDTH:].strip() for line in lines(text)]
    assert notes == ["loss is logloss (sequential)", "loss is logloss, ranking is recall@10", "drift", "x"]


def test_cumulative_and_since_the_last_line() -> None:
    reports = [report(number, (metric("recall@10", 10.0 * number),)) for number in (1, 2, 3, 4)]
    text = lines(printed(reports))
    # batch 4: (10 + 20 + 30 + 40) / 400 in all, (30 + 40) / 200 since batch 2
    assert "0.2500/0.3500" in text[-1]
    assert text[-1].split()[1:4] == ["4,000", "4", "2,000"]


def test_what_was_limited_is_told_by_the_next_line_and_once() -> None:
    """A flood in the 5th micro-batch, which has no line of its own, stands in that of the 8th."""
    limited = {1: {"user_cap": 3}, 5: {"user_cap": 70, "warming_events": 9}, 7: {"user_cap": 4, "clipped_users": 1}}
    text = lines(printed([replace(report(number), limited=limited.get(number, {})) for number in range(1, 17)]))
    assert {int(line.split()[0]): line[WIDTH:].strip() for line in text} == {
        1: "3 user_cap", 2: "", 4: "", 8: "74 user_cap, 1 clipped_users", 16: ""}


def test_a_root_is_taken_of_the_sum_and_not_summed() -> None:
    assert "3.0000/3.0000" in lines(printed([report(1, (metric("rmse", 900.0, learner="mf"),))]))[0]


def test_columns_are_chosen_by_kind() -> None:
    chosen = (
        metric("logloss", 60.0, "sequential"), metric("recall@10", 20.0), metric("ndcg@10", 10.0),
        metric("recall@10", 8.0, learner="popularity"), metric("recall@10", 90.0, which="new_user"),
    )  # fmt: skip
    [line] = lines(printed([report(1, chosen)]))
    assert line.split()[6:9] == ["0.6000/0.6000", "0.2000/0.2000", "0.0800/0.0800"]
    assert "loss is logloss (sequential), ranking is recall@10" in line
    served = (metric("rmse", 100.0, "sequential", "mf"), metric("rmse", 81.0, "served", "mf"))
    assert "0.9000/0.9000" in lines(printed([report(1, served)]))[0]


def test_widths_are_fixed_and_a_pipe_gets_no_colours() -> None:
    text = printed([report(number, (metric("recall@10", 5.0),), note="n" * (number == 3)) for number in range(1, 9)])
    assert {len(line.partition("  ranking is")[0].partition("  n")[0].rstrip()) for line in text[len(LEGEND):]} == {WIDTH}
    assert "\x1b" not in "".join(text)


def test_no_events_no_number() -> None:
    assert "-/-" in lines(printed([report(1, (Metric("rmse", "served", "mf", "all", 0.0, 0),))]))[0]


def test_words_and_rows_between_the_lines() -> None:
    out = io.StringIO()
    table = ProgressTable(out)
    table.say("[compiling] the kernels")
    table.show(pa.table({"answer": [42]}))
    assert out.getvalue().splitlines() == ["[compiling] the kernels", "answer", "    42"]


def test_sums_are_associative() -> None:
    reports = [report(number, (metric("rmse", float(number)),)) for number in range(6)]
    whole, part = Sums(), Sums()
    for one in reports:
        whole.add(one)
    for one in reversed(reports):
        part.add(one)
    assert whole == part


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12, "12 s"), (210, "3.5 min"), (7200, "2.0 h"), (354240, "4.1 d"), (0, "0.0 s")],
)
def test_lag(seconds: float, text: str) -> None:
    assert lag_text(seconds) == text


def test_a_mapping_is_one_line_for_each_thing_it_says() -> None:
    out = io.StringIO()
    print_result({"health": "ok", "last": {"id": 3, "stages": {"plan": 0.5, "learn": 2.0}}, "folders": ["a/x", "a/y"]}, out)
    assert [line.split() for line in out.getvalue().splitlines()] == [
        ["health", "ok"], ["last.id", "3"], ["last.stages", "plan", "0.5,", "learn", "2"], ["folders", "a/x"], ["a/y"],
    ]  # fmt: skip


def test_tables_are_aligned() -> None:
    out = io.StringIO()
    print_result(pa.table({"item": ["a", "longer"], "score": [0.5, 10.0], "why": [None, "x"]}), out)
    assert out.getvalue().splitlines() == ["item    score  why", "a         0.5  null", "longer     10  x"]
    out = io.StringIO()
    print_result([], out)
    assert out.getvalue().strip() == ""


# What others wrote, and what is shown of it.
HOSTILE = {
    "i\x1b[2J\x1b]0;owned\x07": "i\\x1b[2J\\x1b]0;owned\\x07", "two\u2028lines": "two\\u2028lines", "\x9b31m": "\\x9b31m",
    "\u202egnp.exe": "\\u202egnp.exe", "half \ud83d": "half \\ud83d",
}  # fmt: skip


def speaking(shown: str) -> list[str]:
    """What of a text speaks to a terminal: controls, marks of direction, halves of characters, line ends that are none to a person."""
    kinds = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [character for character in shown if character != "\n" and unicodedata.category(character) in kinds]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("made", [
    lambda text: {"item": text, "why": [text], "of": {text: 1.0}}, lambda text: [{"title": text, text: 1}],
    lambda text: pa.table({"raw": [text.encode("utf-8", "replace").decode()]}), lambda text: f"{text} at version 3\nnext to it:",
], ids=["mapping", "rows", "table", "words"])
def test_what_others_wrote_does_not_speak_to_the_terminal(text: str, made) -> None:
    given, out = made(text), io.StringIO()
    print_result(given, out)
    # Arrow holds no half of a character: in a table a question mark stands for it.
    wanted = "half ?" if isinstance(given, pa.Table) and "\ud83d" in text else HOSTILE[text]
    assert speaking(out.getvalue()) == [] and wanted in out.getvalue()
    said = io.StringIO()
    ProgressTable(said).say(text)
    assert speaking(said.getvalue()) == [] and HOSTILE[text] in said.getvalue()


def test_what_speaks_to_a_terminal_is_found() -> None:
    """The subjects of the test above: each text as it was written."""
    assert all(speaking(text) for text in HOSTILE)


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("kind", [FreshetError, RuntimeError])
def test_an_error_does_not_speak_to_the_terminal(kind: type[Exception], debug: bool, capsys) -> None:
    """Its text may quote an id, a title or a file's name, and the traceback of --debug ends with it."""
    text = "i\x1b[2J\u202eowned"
    error = FreshetError(text, remedy=text) if kind is FreshetError else kind(text)
    with pytest.raises(SystemExit), named_refusals(debug):
        raise error
    told = capsys.readouterr().err
    assert speaking(told) == [] and told.count("i\\x1b[2J\\u202eowned") >= 1
    assert ("Traceback" in told) == (debug and kind is RuntimeError)


def test_a_name_cannot_make_a_line_of_its_own() -> None:
    out = io.StringIO()
    print_result([{"item_id": "i1\n1  forged  9.9", "score": 0.5}, {"item_id": "=cmd()", "score": 0.4}], out)
    assert len(out.getvalue().splitlines()) == 3 and "i1\\n1  forged" in out.getvalue() and "=cmd()" in out.getvalue()
