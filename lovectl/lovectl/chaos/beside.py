"""Does a piece of work in a process of its own, beside ours, which never outlives us."""

import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from lovectl.errors import StackError

Answer = TypeVar("Answer")


@contextmanager
def beside(work: Callable[..., Answer], *arguments: Any) -> Iterator[Callable[[], Answer]]:
    """Begin `work(*arguments)` in another process; inside the block, its result is waited for.

    What the block leaves unfinished is interrupted as by Ctrl-C, so that it ends its own servers; the
    end of this process, whatever ends it, interrupts it too.

    Parameters
    ----------
    work : callable
        And its arguments: sent to a fresh interpreter, so they must be picklable.

    Yields
    ------
    callable
        Waits for what the work gives.

    Raises
    ------
    StackError
        From that callable: the work failed; the message has its traceback.
    """
    context = get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(sender, work, arguments))
    process.start()
    # Else its end would not be the end of the pipe.
    sender.close()

    def result() -> Answer:
        try:
            failure, answer = receiver.recv()
        except EOFError:
            process.join()
            raise StackError(f"the work beside ended with code {process.exitcode}") from None
        if failure:
            raise StackError(f"the work beside failed:\n{failure}")
        found: Answer = answer
        return found

    try:
        yield result
    finally:
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGINT)
        process.join()
        receiver.close()


def _work(sender: Connection, work: Callable[..., Any], arguments: Sequence[Any]) -> None:
    # A session of its own: Ctrl-C at the terminal reaches us by way of our parent, and only once.
    os.setsid()
    # A shell has its background jobs ignore it, and that is inherited.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    parent = parent_process()
    assert parent is not None
    threading.Thread(target=_interrupt_after, args=(parent.sentinel,), daemon=True).start()
    try:
        told: tuple[str, Any] = "", work(*arguments)
    except KeyboardInterrupt:
        return
    except Exception:  # noqa: BLE001 - is raised where the result is waited for
        told = traceback.format_exc(), None
    sender.send(told)


def _interrupt_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGINT)
