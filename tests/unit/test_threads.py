"""One thread that works in order, whatever is thrown."""

import threading
import weakref

import pytest

from gateway.delivery.threads import OneThread
from tests.support.processes import wait_until


def test_work_is_done_in_order_and_before_the_end() -> None:
    thread, done = OneThread("test"), []
    for number in range(100):
        thread.post(lambda number=number: done.append(number))
    assert thread.submit(lambda: len(done)).result() == 100
    thread.post(lambda: done.append(100))
    thread.shutdown()
    assert done == list(range(101))
    with pytest.raises(RuntimeError, match="ended"):
        thread.post(lambda: None)


def test_an_error_is_the_futures_and_one_that_nobody_waits_for_stops_nothing() -> None:
    thread = OneThread("test")
    thread.post(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        thread.submit(lambda: 1 / 0).result()
    assert thread.submit(threading.current_thread).result().name == "test"
    thread.shutdown()


def test_what_was_done_is_let_go() -> None:
    class Payload:
        pass

    thread, payload = OneThread("test"), Payload()
    gone = weakref.ref(payload)
    thread.post(lambda payload=payload: None)
    del payload
    wait_until(lambda: gone() is None, "what was done to be let go, with nothing done after it")
    thread.shutdown()
