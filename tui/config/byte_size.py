"""A number of bytes that people read and write with a unit: "4 GiB"."""

from __future__ import annotations

import re
from typing import Final

_BYTES: Final = {
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGT", 1)},
    **{f"{letter}B": 1000**power for power, letter in enumerate("kMGT", 1)},
    "B": 1,
}
"""The units, those that a size is written in first."""
_FORM = re.compile(r"(\d{1,18}(?:\.\d{1,6})?) ?([kmgt]?i?b)?", re.IGNORECASE)


class ByteSize(int):
    """Bytes. Its text has the unit in which the number is short: "4 GiB", "500 MB"."""

    @classmethod
    def read(cls, text: str) -> ByteSize:
        """Read "4 GiB", "1.5 gb" or "0". Raises `ValueError`."""
        found = _FORM.fullmatch(text.strip())
        if not found:
            raise ValueError(text)
        units = {unit.lower(): bytes_ for unit, bytes_ in _BYTES.items()}
        return cls(round(float(found[1]) * units[(found[2] or "B").lower()]))

    def __str__(self) -> str:
        for unit, bytes_ in _BYTES.items():
            number = f"{self / bytes_:.2f}".rstrip("0").rstrip(".")
            if 1 <= self / bytes_ < 1000 and round(float(number) * bytes_) == self:
                return f"{number} {unit}"
        return f"{int(self)} B" if self else "0"
