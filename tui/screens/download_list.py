"""The list of downloads on the hub screen: shows how far each has come, and pauses, resumes or removes it.

The downloads belong to the app: they continue when the screen closes.
"""

from __future__ import annotations

from collections.abc import Callable

from tui.client import Downloads, Item
from tui.quantities import bar, duration, percent, size
from tui.widgets.rows import Row, Rows, Tone

TICK = 0.25
"""Seconds between two looks at the downloads."""
_BAR = 10
_TONES: dict[str, Tone] = {"done": "good", "failed": "faint", "paused": "faint"}
_MOVING = ("running", "waiting")


class DownloadList(Rows):
    """One row for each download."""

    def __init__(self, downloads: Downloads, shown: Callable[[], None]) -> None:
        """`shown` is called each time that the list is shown anew."""
        super().__init__("downloads", "nothing yet: Enter downloads the model under the cursor")
        self._downloads = downloads
        self._shown = shown

    def on_mount(self) -> None:
        self.border_title = "Downloads"
        self._watch = self.set_interval(TICK, self.show_downloads)
        self.show_downloads()

    def show_downloads(self) -> None:
        """Show the downloads, repeatedly while one of them moves."""
        self.show([download_row(str(id(each)), each) for each in self._downloads.items])
        self._shown()
        moving = any(each.state in _MOVING for each in self._downloads.items)
        (self._watch.resume if moving else self._watch.pause)()

    @property
    def item(self) -> Item | None:
        """The download under the cursor."""
        row = self.current
        return next((each for each in self._downloads.items if row and str(id(each)) == row.key), None)

    def add(self, repository: str, file: str, note: str = "") -> None:
        """Download a file or a folder; `note` stands beside it."""
        self._downloads.add(repository, file, note)
        self.show_downloads()

    def toggle(self) -> None:
        """Pause the download under the cursor, or resume it."""
        if item := self.item:
            (self._downloads.pause if item.state in _MOVING else self._downloads.resume)(item)
            self.show_downloads()

    def remove_item(self) -> None:
        """Take the download under the cursor off the list."""
        if item := self.item:
            self._downloads.remove(item)
            self.show_downloads()

    def description(self) -> str:
        """Return the words about the download under the cursor, beside its numbers."""
        if (item := self.item) is None:
            return ""
        if item.reason:
            return f"Waiting: {item.reason}. It goes on by itself; Enter pauses it."
        if item.fault:
            return item.fault.line
        return " · ".join(filter(None, (item.path or item.repository, item.note)))


def download_row(key: str, item: Item) -> Row:
    share = item.done / item.total if item.total else 0.0
    came = f"{size(item.done)} of {size(item.total)}" if item.total else ""
    pace = f"{size(round(item.speed))}/s" if item.speed else ""
    left = f"{duration(item.seconds_left)} left" if item.seconds_left else item.state
    if item.reason:  # the full reason stands below the lists
        came, left = "", item.reason.partition(":")[0]
    return Row(
        key,
        (item.name, f"{bar(share, _BAR)} {percent(min(1.0, share)):>5}", came, pace, left),
        _TONES.get(item.state, "plain"),
    )
