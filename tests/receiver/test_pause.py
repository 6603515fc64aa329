"""A provider that repeats a request only without an answer gets none; but not every request may wait."""

from shared.http.greenlets import Pause
from tests.support.receiver import Loop


def test_requests_pause_on_the_event_loop_and_in_threads() -> None:
    pause, loop = Pause(2), Loop()
    loop.call(pause.wait, 0.001)
    pause.wait(0.001)
    loop.close()


def test_no_request_pauses_where_there_is_no_room() -> None:
    Pause(0).wait(3600)


def test_a_pause_gives_its_place_back() -> None:
    pause = Pause(1)
    for _ in range(3):
        pause.wait(0.001)


def test_no_pause_takes_no_place() -> None:
    Pause(0).wait(0.0)
