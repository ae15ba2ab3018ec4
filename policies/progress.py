"""The progress bar of long work: what, how far, a remark, time taken and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


def progress_bar(show: bool) -> Progress:
    """A bar whose tasks carry a field ``note`` for rates and results; silent unless ``show``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not show,
    )


@contextmanager
def counting(what: str, total: int, note: str = "episodes", show: bool = True) -> Iterator[Callable[[int], None]]:
    """A bar up to ``total``, moved by the number that is done."""
    with progress_bar(show) as progress:
        bar = progress.add_task(what, total=total, note=note)
        yield lambda done: progress.update(bar, completed=done)
