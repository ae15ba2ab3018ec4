"""Transformers' own messages are left out where errors here say what is wrong."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bar and no message but errors, of transformers alone."""
    from transformers.utils import logging as messages

    before, bar = messages.get_verbosity(), messages.is_progress_bar_enabled()
    messages.set_verbosity_error()
    messages.disable_progress_bar()
    try:
        yield
    finally:
        messages.set_verbosity(before)
        if bar:
            messages.enable_progress_bar()
