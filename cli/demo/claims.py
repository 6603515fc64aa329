"""What the demo says is so, and whether it is."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Something that the demo says is so. `differences` say what is wrong; empty if nothing is."""

    text: str
    differences: tuple[str, ...] = ()


def conclude(console: Console, claims: Sequence[Claim]) -> bool:
    """Print the claims, each with what is wrong with it; whether all hold."""
    console.print("\n[bold]expected[/]")
    for claim in claims:
        console.print(f" {'[red]✗[/]' if claim.differences else '[green]✓[/]'} {escape(claim.text)}")
        for difference in claim.differences:
            console.print(f"     [red]{escape(difference)}[/]")
    held = sum(not claim.differences for claim in claims)
    colour = "green" if held == len(claims) else "red"
    console.print(f"\n[bold {colour}]{held} of {len(claims)} expectations held.[/]\n")
    return held == len(claims)
