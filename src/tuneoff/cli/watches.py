"""`tuneoff watch`, and the page of `compare --page`: a study that this process, another one or another machine runs."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tuneoff.cli.output import LiveText, say, show
from tuneoff.errors import UserError
from tuneoff.local_page import LocalPage
from tuneoff.results.store import url_of
from tuneoff.study.watching import StudyView, StudyWatch

LOOK_SECONDS = 2.0
_PLAIN_SECONDS = 30.0


def study_watch(folder: Path) -> StudyWatch:
    """What looks at a folder, which may not be there yet. Raises `UserError` for a file and for a URL."""
    if url_of(folder) is not None:
        raise UserError(f"{url_of(folder)}: only a folder of this machine can be watched")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file, where the folder of a study was expected")
    return StudyWatch(folder)


def watch(
    watched: StudyWatch, *, until: Callable[[StudyView], bool], sleep: Callable[[float], None] = time.sleep
) -> None:
    """Show a study until it has ended: in place in a terminal, in plain lines elsewhere."""
    view = watched.look()
    if not view.begun:
        say(f"{watched.dir.path}: no study there yet; waiting until `tuneoff compare` begins it, Ctrl-C ends this")
    if sys.stdout.isatty():
        with LiveText() as live:
            while True:
                live.update([view.headline(), *view.board()])
                if until(view):
                    return
                sleep(LOOK_SECONDS)
                view = watched.look()
    shown: object = None
    waited = _PLAIN_SECONDS
    while True:
        lines = [view.headline(), *view.findings()]
        news = lines, view.assignments()
        ended = until(view)  # it remembers the look before
        if (view.begun or view.fault) and news != shown and (waited >= _PLAIN_SECONDS or ended):
            show("\n".join([view.headline(), *view.team_lines(), *view.findings()]))
            shown, waited = news, 0.0
        if ended:
            return
        sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS
        view = watched.look()


def has_ended(watched: StudyWatch) -> Callable[[StudyView], bool]:
    """Whether a study has ended, by two looks: further runs may be planned in the moment when the last one ends."""
    before = watched.look().ended

    def ended(view: StudyView) -> bool:
        nonlocal before
        twice, before = before and view.ended, view.ended
        return twice

    return ended


def open_watch_page(watched: StudyWatch, port: int) -> LocalPage:
    """The page that shows a study while it runs. Raises `UserError` for a port that is taken."""
    from tuneoff.report.watch_page import watch_page  # jinja is slow to import

    return LocalPage(watch_page(watched.look().name), {"view": lambda _asked: watched.look().as_data()}, port)


@contextlib.contextmanager
def served(watched: StudyWatch) -> Iterator[None]:
    """The page of a study that this process carries out, as long as the context lasts. Its address goes to stderr."""
    page = open_watch_page(watched, 0)
    thread = threading.Thread(target=page.serve, daemon=True)
    thread.start()
    say(f"page of this study, on this machine: {page.address}")
    try:
        yield
    finally:
        page.close()
        thread.join()
