"""Latency from a POST until its state can be read from the API, at a steady rate."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final
from urllib.parse import quote

from bench import caller, load, signing
from bench.caller import Caller
from bench.figures import Figure, Findings
from bench.plan import Plan
from bench.sides import Tidings
from bench.stage import Stage

_RATE: Final = 300
_PROBES_A_SECOND: Final = 12  # of the 300: enough to see the p99, few enough not to be the load themselves
_PROBERS: Final = 4
_POLL_SECONDS: Final = 0.002
_PATIENCE_SECONDS: Final = 10.0
_WARM_UP_SECONDS: Final = 2.0
_CONNECTIONS: Final = 32
_MEDIAN_MS: Final = 20.0
_P99_MS: Final = 150.0


def run(stage: Stage, plan: Plan) -> Findings:
    """Measure Tidings alone: most requests are the load, a few are watched."""
    side = stage.tidings
    side.reset()
    side.start("api")
    side.processes.wait_until(lambda: side.place.api.answers("/healthz"), f"{side.name}-api")
    try:
        with side.working():
            warm_up = signing.sign(int(_RATE * _WARM_UP_SECONDS), seed=400).requests
            load.run(side.address, warm_up, connections=_CONNECTIONS, rate=_RATE)
            seen, outcome = _measure(side, plan.latency)
    finally:
        side.processes.stop(f"{side.name}-api")
    return _findings(seen, outcome)


def _measure(side: Tidings, seconds: float) -> tuple[list[float | None], load.Outcome]:
    background = _RATE - _PROBES_A_SECOND
    requests = signing.sign(int(background * seconds), seed=401).requests
    # A message's first event only: that is how the watched request is distinguished from later ones.
    probes = signing.sign(int(_PROBES_A_SECOND * seconds), seed=402).requests[:1000]
    prober = _Prober(side)
    with ThreadPoolExecutor(_PROBERS) as pool:
        begin = time.perf_counter()
        watched = pool.map(prober.see, probes, (begin + number / _PROBES_A_SECOND for number in range(len(probes))))
        outcome = load.run(side.address, requests, connections=_CONNECTIONS, rate=background)
        seen = list(watched)
    return seen, outcome


class _Prober:
    """Sends a request and polls until its state is there; each thread has its own connections."""

    def __init__(self, side: Tidings) -> None:
        self._side = side
        self._local = threading.local()

    def see(self, request: bytes, due: float) -> float | None:
        """Return the seconds from sending it to seeing its state; None if it was refused or never seen."""
        time.sleep(max(0.0, due - time.perf_counter()))
        receiver, api = self._callers()
        event = json.loads(request.partition(b"\r\n\r\n")[2])[0]
        place = self._side.place
        look = caller.get(f"/v1/messages?request_id={quote(event['request_id'])}", place.api.host, place.admin_key)
        begin = time.perf_counter()
        if receiver.call(request).status != 200:
            return None
        while time.perf_counter() - begin < _PATIENCE_SECONDS:
            answer = api.call(look)
            if answer.status == 200 and _has_state(answer.body):
                return time.perf_counter() - begin
            time.sleep(_POLL_SECONDS)
        return None

    def _callers(self) -> tuple[Caller, Caller]:
        if not hasattr(self._local, "callers"):
            place = self._side.place
            self._local.callers = (Caller(self._side.address), Caller((place.api.host, place.api.port)))
        found: tuple[Caller, Caller] = self._local.callers
        return found


def _has_state(body: bytes) -> bool:
    items = json.loads(body)["items"]
    return bool(items) and bool(items[0]["recipients"]) and items[0]["recipients"][0]["status"] is not None


def _findings(seen: list[float | None], outcome: load.Outcome) -> Findings:
    milliseconds = [1000 * seconds for seconds in seen if seconds is not None]
    findings = Findings()
    what = f"POST sent to state seen in the API, at {_RATE} POSTs/s"
    for name, share, limit in (("median", 0.5, _MEDIAN_MS), ("p99", 0.99, _P99_MS)):
        value = load.percentile(milliseconds, share)
        findings.figures.append(Figure(what=f"{what}: {name}", unit="ms", tidings=[value], at_most=limit))
    answers = 1000 * outcome.percentile(0.99)
    findings.figures.append(
        Figure(what=f"p99 of the receiver's answer, at {_RATE} POSTs/s", unit="ms", tidings=[answers])
    )
    findings.notes.append(
        f"Latency: {len(milliseconds)} requests were watched beside the others, {_PROBES_A_SECOND} a second; "
        f"`GET /v1/messages?request_id=…` was repeated every {1000 * _POLL_SECONDS:.0f} ms until it showed the state, "
        "so its own time is part of the figure."
    )
    if len(milliseconds) < len(seen):
        findings.wrong.append(f"latency: {len(seen) - len(milliseconds)} of {len(seen)} states were never seen")
    if set(outcome.statuses) != {200}:
        findings.wrong.append(f"latency: answers were {dict(outcome.statuses)}")
    return findings
