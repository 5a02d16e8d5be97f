"""A progress line, where rich is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from feasible.solve.minimization.result import Intermediate


@contextmanager
def progress_line(wanted: bool) -> Iterator[Callable[[Intermediate], None] | None]:
    """A function that shows an iterate on one line, or ``None``.

    Raises:
        ImportError: a line is wanted, and rich is missing.
    """
    if not wanted:
        yield None
        return
    try:
        from rich.console import Console
    except ImportError:
        raise ImportError('minimize: progress=True needs rich: pip install "feasible[workbook]".') from None
    with Console().status("minimize") as status:

        def show(shown: Intermediate) -> None:
            status.update(
                f"iteration {shown.nit}: fun {shown.fun:.8g}, violation {shown.maxcv:.1e}, "
                f"stationarity {shown.stationarity:.1e}"
            )

        yield show
