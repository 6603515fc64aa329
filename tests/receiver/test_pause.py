"""A provider that repeats a request only without an answer gets none; but not every request may wait."""

from shared.http.greenlets import Pause
from tests.support.receiver import Loop


def test_requests_pause_on_the_event_loop_and_in_threads() -> None:
    pause, loop = Pause(2), Loop()
    assert loop.call(pause.wait, 0.001)
    assert pause.wait(0.001)
    loop.close()


def test_no_request_pauses_where_there_is_no_room() -> None:
    assert not Pause(0).wait(3600)


def test_a_pause_gives_its_place_back() -> None:
    pause = Pause(1)
    assert [pause.wait(0.001) for _ in range(3)] == [True] * 3


def test_no_pause_takes_no_place() -> None:
    pause = Pause(1)
    assert not pause.wait(0.0)
    assert pause.wait(0.001)
