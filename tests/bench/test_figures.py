"""What the results say about the figures is true of the figures."""

from bench import results
from bench.figures import Figure, Findings, shown, summary


def test_a_ratio_is_of_medians_and_at_least_of_worst_by_best() -> None:
    figure = Figure(what="x", unit="a", tidings=[90, 100, 140], usual=[8, 10, 20], at_least_times=12)
    assert figure.ratio == 10
    assert figure.least_ratio == 4.5
    assert figure.passed is False
    assert figure.target == "≥ 12x"


def test_a_limit_is_kept_by_the_median() -> None:
    assert Figure(what="x", unit="ms", tidings=[10, 20, 90], at_most=20).passed is True
    assert Figure(what="x", unit="ms", tidings=[21], at_most=20).passed is False
    assert Figure(what="x", unit="ms", tidings=[21]).passed is None


def test_numbers_have_their_significant_digits_only() -> None:
    assert [shown(value) for value in (0.123, 12.34, 1234.5)] == ["0.12", "12.3", "1,234"]
    assert summary([1.0, 3.0, 2.0], "s") == "2.00 s (1.00 to 3.00)"


def test_the_page_has_every_figure_and_every_doubt() -> None:
    figure = Figure(what="accepted", unit="requests/s", tidings=[6000, 5000], usual=[1000, 900], at_least_times=5)
    findings = [Findings(figures=[figure], wrong=["the backlog grew"], notes=["It rained."])]
    page = results.page(findings, {"machine": "2 x something"}, "2026-03-02", "python -m bench")
    assert "| accepted | 5,500 requests/s (5,000 to 6,000) | 950 requests/s (900 to 1,000) | 5.8x" in page
    assert "- the backlog grew" in page
    assert "- It rained." in page
    assert "| machine | 2 x something |" in page
