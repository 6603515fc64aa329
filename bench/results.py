"""The results, as a table on the screen and as a page."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.table import Table as Grid

from bench.figures import Figure, Findings, Table, shown, summary

_HEAD: Final = ("what", "Tidings", "the usual way", "ratio", "target", "")
_STYLES: Final = {"pass": "green", "fail": "bold red", "": ""}

_USUAL_WAY: Final = """\
What a competent developer writes first (`bench/usual/`): a Flask view that verifies the signature by
the same code as Tidings, inserts one row by the SQLAlchemy ORM, commits with `synchronous_commit=on`, and calls
`send_task` once; a Celery task that does by the ORM, in one transaction for each event, what Tidings does by one
statement for a whole batch: the event's key so that it is taken once, the event, the message, the recipient's state
folded in Python under a row lock, the change in the log, one more in the count of its minute. The task of a body with
several events sends a task for each of them, with the event in it. Both sides have the same tables, each in a database
of its own on the same server, the same signed requests in the same order, and begin every round with empty tables.

Its settings (`python -m bench --only tuning` measures others beside them): gunicorn with 2 `gthread` processes of 8
threads and connections kept alive, a pool with a connection for every thread; a Celery worker with 2 processes, no
results, no events, early acknowledgement, and 32 tasks prefetched for each process. Its worker commits with
`synchronous_commit=on`: a task that was acknowledged is not handed out again, so a commit that is lost is an event that
is lost. The worker of Tidings commits without waiting for the disk, because the queue is in the same database: what is
lost with a commit is handed out again."""

_METHOD: Final = """\
- One machine for everything: servers, both sides, and the load generator, which is one process and one thread
  (`bench/load.py`). Requests are signed before each round, so signing costs nothing while the clock runs.
- *accepted*: closed loop over keep-alive connections, workers stopped on both sides.
- *processed to state*: closed loop with workers on. Five times a second the backlog is counted, and the load is held
  back while more waits than about a second's work; the rate is that of events committed with their state, from
  the end of the warm-up (the first 15 % of the time) until the load ends. Afterwards every accepted event must
  have its state.
- *memory*: of the largest process of its kind, as Linux tells it: resident, and proportional (pages that processes
  share counted once).
- Sides take turns within each round. The table has the median of the rounds, and their range where there are several.
  The ratio is median by median; behind it stands Tidings' worst round by the usual way's best."""


def show(console: Console, findings: Sequence[Findings]) -> None:
    """Print the table, then what is wrong with it."""
    grid = Grid(*_HEAD)
    for figure in _figures(findings):
        cells = _cells(figure)
        grid.add_row(*cells[:-1], f"[{_STYLES[cells[-1]]}]{cells[-1]}[/]" if cells[-1] else "")
    if grid.row_count:
        console.print(grid)
    for one in findings:
        for table in one.tables:
            console.print(_grid(table))
        for note in one.notes:
            console.print(note)
        for doubt in one.wrong:
            console.print(f"[bold red]wrong:[/] {doubt}")


def page(findings: Sequence[Findings], facts: Mapping[str, str], date: str, command: str) -> str:
    """Return the text of RESULTS.md."""
    parts = [
        "# Benchmarks",
        f"Measured on {date} by `{command}`, which measures both sides in one run and writes this page.",
        _markdown(_HEAD, map(_cells, _figures(findings))),
        *_section("What is wrong with these figures", _bullets(doubt for one in findings for doubt in one.wrong)),
        *_section("Measured on", _markdown(("", ""), facts.items())),
        *_section("How", _METHOD + "\n\n" + _bullets(note for one in findings for note in one.notes)),
        *_section("The usual way", _USUAL_WAY),
        "## Details",
    ]
    for one in findings:
        for table in one.tables:
            parts += [f"### {table.title}", _markdown(table.head, table.rows)]
    rounds = [(figure.what, _rounds(figure.tidings), _rounds(figure.usual)) for figure in _figures(findings)]
    parts += ["### Every round", _markdown(("what", "Tidings", "the usual way"), rounds)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _figures(findings: Sequence[Findings]) -> list[Figure]:
    return [figure for one in findings for figure in one.figures]


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = ""
    if figure.ratio is not None and figure.least_ratio is not None:
        ratio = f"{figure.ratio:.1f}x (at least {figure.least_ratio:.1f}x)"
    return (
        figure.what,
        summary(figure.tidings, figure.unit),
        summary(figure.usual, figure.unit),
        ratio,
        figure.target,
        figure.verdict,
    )


def _rounds(values: Iterable[float]) -> str:
    return ", ".join(map(shown, values))


def _section(title: str, text: str) -> list[str]:
    return [f"## {title}", text] if text else []


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {sentence}" for sentence in sentences)


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _grid(table: Table) -> Grid:
    grid = Grid(*table.head, title=table.title)
    for row in table.rows:
        grid.add_row(*row)
    return grid
