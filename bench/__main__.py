"""`python -m bench`: measure, print, write RESULTS.md."""

import argparse
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from bench import machine, plan, results
from bench.figures import Findings
from bench.plan import Plan
from bench.scenarios import EXTRA, SCENARIOS
from bench.stage import Stage
from shared.errors import TidingsError

_RESULTS = Path(__file__).parent / "RESULTS.md"
_QUICK_SECONDS = 5.0
_FULL_SECONDS = 60.0
_WIDTH = 150  # where there is no terminal to ask


def main(arguments: list[str] | None = None) -> int:
    """Run the chosen scenarios; return 0 unless something was wrong. A missed target is not an error."""
    options = _parser().parse_args(arguments)
    seconds = options.seconds or (_QUICK_SECONDS if options.quick else _FULL_SECONDS)
    chosen = plan.quick(seconds) if options.quick else plan.full(seconds)
    names = options.only or list(SCENARIOS)
    # A quick or partial run must not replace the published page.
    output = options.output or (None if options.quick or options.only else _RESULTS)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    findings: list[Findings] = []
    try:
        with Stage() as stage:
            facts = machine.facts(stage.postgres.url, stage.redis.url, stage.directory)
            try:
                _run(stage, names, chosen, findings, console)
            finally:
                if options.logs:
                    stage.keep_logs(options.logs)
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        return 130
    except TidingsError as error:
        console.print(f"[bold red]Error:[/] {error}")
        return 2
    results.show(console, findings)
    if output:
        date = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        output.write_text(results.page(findings, facts, date, _command(options)))
        console.print(f"written to {output}")
    return 1 if any(one.wrong for one in findings) else 0


def _run(stage: Stage, names: list[str], chosen: Plan, findings: list[Findings], console: Console) -> None:
    columns = (SpinnerColumn(finished_text="✓"), TextColumn("{task.description}"), TimeElapsedColumn())
    # Twice a second: drawing the progress takes processor time from what is measured.
    with Progress(*columns, console=console, refresh_per_second=2) as progress:
        tasks = {name: progress.add_task(name, start=False, total=1) for name in names}
        for name in names:
            progress.start_task(tasks[name])
            for side in stage.sides:
                side.start_receiver()
            try:
                findings.append({**SCENARIOS, **EXTRA}[name](stage, chosen))
            finally:
                for side in stage.sides:
                    side.processes.stop()
            progress.update(tasks[name], completed=1)


def _command(options: argparse.Namespace) -> str:
    """Return the command that repeats the run, without the paths of its files."""
    words = ["python -m bench", *(["--quick"] if options.quick else [])]
    words += [f"--seconds {options.seconds:g}"] if options.seconds else []
    return " ".join([*words, *(f"--only {name}" for name in options.only or ())])


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure Tidings and the usual way in one run, on throwaway data."
    )
    parser.add_argument("--quick", action="store_true", help="one short round of each: a look, not a result")
    parser.add_argument("--seconds", type=float, help="how long the sustained load lasts (60; quick: 5)")
    parser.add_argument(
        "--only", action="append", choices=[*SCENARIOS, *EXTRA], help="only this scenario; may be repeated"
    )
    parser.add_argument("--output", type=Path, help="where to write the page (bench/RESULTS.md, if all was run)")
    parser.add_argument("--logs", type=Path, help="keep what the processes logged in this directory")
    return parser


if __name__ == "__main__":
    sys.exit(main())
