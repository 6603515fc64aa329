"""Behaviours of a subscriber: healthy, or failing in the ways that endpoints fail."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from simulator.serving import Ending, Response

_WELL = Response(status=HTTPStatus.OK, content=b"taken")
_HANG_SECONDS = 120.0
_DRIPPED_BYTES = 3600
_BLOCK = b"too much of a good thing " * 2621  # 64 KiB at a time, without an end
_GARBAGE = b"\x00\xff\xfe\xc3\x28\x1b[31m not what it says \x80"


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A request as a behaviour sees it: which one since it was switched on, from 1, and how long after that."""

    number: int
    elapsed_seconds: float


Behaviour = Callable[[Moment], Response]
"""A response. 2xx means that the application accepted the change, even if the response is lost."""


def _always(response: Response) -> Behaviour:
    return lambda _moment: response


def healthy() -> Behaviour:
    """Accept everything, and answer at once."""
    return _always(_WELL)


def slow(seconds: float) -> Behaviour:
    """Accept everything, and answer after a while."""
    return _always(replace(_WELL, delay_seconds=seconds))


def hanging() -> Behaviour:
    """Accept nothing and do not answer, for longer than any sender waits."""
    return _always(Response(status=HTTPStatus.GATEWAY_TIMEOUT, delay_seconds=_HANG_SECONDS, ending=Ending.LOST))


def dripping() -> Behaviour:
    """Accept everything, and answer at a byte a second, for an hour."""
    return _always(replace(_WELL, content=b"." * _DRIPPED_BYTES, ending=Ending.DRIPPED))


def oversize() -> Behaviour:
    """Accept everything, and answer without an end."""
    return _always(replace(_WELL, content=_BLOCK, ending=Ending.ENDLESS))


def redirecting(url: str) -> Behaviour:
    """Accept nothing, and redirect the sender."""
    return _always(Response(status=HTTPStatus.TEMPORARY_REDIRECT, headers={"Location": url}))


def resetting() -> Behaviour:
    """Accept nothing, and reset the connection."""
    return _always(Response(status=HTTPStatus.SERVICE_UNAVAILABLE, ending=Ending.LOST))


def forgetful() -> Behaviour:
    """Accept everything, but reset the connection before the response: the sender must retry."""
    return _always(replace(_WELL, ending=Ending.LOST))


def cut_off() -> Behaviour:
    """Accept everything, and close the connection in the middle of the answer."""
    return _always(replace(_WELL, content=b"taken, all of it", ending=Ending.CUT))


def wrong_content() -> Behaviour:
    """Accept everything, and answer with bytes that are neither the JSON that they claim to be, nor any text."""
    return _always(replace(_WELL, content=_GARBAGE, headers={"Content-Type": "application/json; charset=utf-8"}))


def answering(status: int, *, retry_after: str | None = None) -> Behaviour:
    """Answer always with this status; `retry_after` is the header, in seconds or as a date."""
    headers = {} if retry_after is None else {"Retry-After": retry_after}
    return _always(Response(status=status, content=f"{status}".encode(), headers=headers))


def flapping(every: int, failure: Behaviour | None = None) -> Behaviour:
    """Fail at every n-th request: with 503, unless another failure is given."""
    fails = failure or answering(HTTPStatus.SERVICE_UNAVAILABLE)
    return lambda moment: fails(moment) if moment.number % every == 0 else _WELL


def scheduled(*phases: tuple[float, Behaviour], finally_: Behaviour | None = None) -> Behaviour:
    """Follow these behaviours in turn, each for its seconds; then be healthy, or follow `finally_`."""
    last = finally_ or healthy()

    def behave(moment: Moment) -> Response:
        left = moment.elapsed_seconds
        for seconds, behaviour in phases:
            if left < seconds:
                return behaviour(replace(moment, elapsed_seconds=left))
            left -= seconds
        return last(replace(moment, elapsed_seconds=left))

    return behave
