"""Access to the Hugging Face hub: the token, the waiting times, and an explanation for each rejection.

A token that the hub rejects must not hide public files. So each question that fails with a token is asked
again without it. This module knows no model and no file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import ceil, isfinite
from typing import Any, TypeVar

from ...errors import OutriderError

LONGEST_WAIT = 3600.0
"""Longest time in seconds that a download waits because the hub asks it to, as long as no byte arrives."""
REJECTED = (401, 403)
LATER = frozenset((408, 429, 500, 502, 503, 504))
"""HTTP statuses after which the same question may succeed later."""
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
_OF_REPOSITORIES = ("RepoNotFound", "GatedRepo")
"""The hub's error codes for a rejection that concerns a repository."""
_PLAIN = re.compile(r"[!-~]+")
_ERRNO = re.compile(r"^\[Errno -?\d+\] ")
_MOST_WORDS = 1 << 16
"""Most bytes that are read of an error response."""

R = TypeVar("R")


class HubError(OutriderError):
    """The hub does not give the requested data. `hint` tells a person the remedy."""


class TryLater(HubError):
    """The hub asks to wait. `seconds` is the time until the next try."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(f"the hub asks to wait {_span(seconds)}: {reason}", "Try again then.")
        self.seconds = seconds
        self.reason = reason


@dataclass(frozen=True)
class HubToken:
    """The token that goes with a question to the hub."""

    text: str = ""
    """The token; empty for anonymous access."""
    source: str = ""
    """Where the token comes from: a variable, or the login of this machine."""
    fault: str = ""
    """The reason why a token that exists cannot be used; else empty."""

    @property
    def sent(self) -> Any:
        """The value for huggingface_hub. False, for an empty token, stops its own search for one."""
        return self.text or False

    @property
    def remedy(self) -> str:
        if self.source in _TOKENS:
            return f"Give {self.source} a token that is valid, or unset it."
        return "Log in again on this machine: hf auth login."


ANYBODY = HubToken()


def find_token() -> HubToken:
    """Return the token of this machine, if there is a usable one. It is never shown."""
    from huggingface_hub import constants, get_token

    source = next((name for name in _TOKENS if os.environ.get(name)), "the login of this machine")
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ANYBODY
    try:
        text = get_token() or ""
    except Exception as error:  # a file that cannot be read, or an exchange over the network
        return HubToken(source=source, fault=_in_words(error))
    if text and not _PLAIN.fullmatch(text):
        return HubToken(source=source, fault="it holds characters that no token has")
    return HubToken(text, source) if text else ANYBODY


def asked(question: Callable[[HubToken], R], about: str = "") -> R:
    """Return the hub's answer to `question`; ask again without the token if the hub rejects it.

    `about` is the repository concerned, if there is one. Raises `HubError`.
    """
    token = find_token()
    try:
        return question(token)
    except Exception as error:  # errors of the network and of the library, of many types
        rejection = explained(error, about, token)
        if not token.text or _status(error) not in REJECTED:
            raise rejection from None
    try:
        return question(ANYBODY)
    except Exception:  # as above; the first rejection is the better reason
        raise rejection from None


def patient(question: Callable[[], R], wait: Callable[[TryLater], None], longest: float) -> R:
    """Return the result of `question`. Wait as long as the hub asks for, at most `longest` seconds in all."""
    waited = 0.0
    while True:
        try:
            return question()
        except TryLater as later:
            waited += later.seconds
            if waited > longest:
                raise
            wait(later)


def explained(error: Exception, about: str = "", token: HubToken = ANYBODY) -> HubError:
    """Turn an error of the hub into one line with a remedy."""
    if isinstance(error, HubError):
        return error
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubError("HF_HUB_OFFLINE is set: the hub is not asked", "Unset it to search and download.")
    response = getattr(error, "response", None)
    if response is not None:
        return rejection(response, about, token)
    if isinstance(error, OSError) or type(error).__module__.startswith("http"):
        return HubError(f"the hub cannot be reached: {_in_words(error)}", "Check the network.")
    return HubError(f"the hub's answer cannot be understood ({type(error).__name__})", "Try again later.")


def rejection(response: Any, about: str, token: HubToken) -> HubError:
    """Turn a response with an error status into a `HubError`."""
    status, words = int(response.status_code), _said(response)
    code = response.headers.get("x-error-code", "")
    what = about or "the search"
    if status in REJECTED:
        if token.text and ("token" in words.casefold() or (status == 401 and code not in _OF_REPOSITORIES)):
            why = f": {words}" if words else ""
            return HubError(f"the hub rejects your token ({token.source}){why}", token.remedy)
        if code == "GatedRepo" or "gated" in words.casefold() or (status == 403 and not words):
            who = "as the owner of your token" if token.text else "then log in on this machine: hf auth login"
            hint = f"Accept its terms at {endpoint()}/{about}, {who}."
            return HubError(f"{what} is gated: its makers ask for your consent first", _with(hint, token))
        if status == 403:
            return HubError(f"the hub rejects {what}: {words}", _with("Choose another model.", token))
    if about and (status in (401, 404) or code == "RepoNotFound"):
        login = "a private one needs a token that may read it."
        if not token.text:
            login = "a private one needs a login on this machine: hf auth login."
        return HubError(f"the hub has no {about}", _with(f"Check the name; {login}", token))
    if status in LATER and (seconds := seconds_to_wait(response)):
        return TryLater(seconds, why_later(status))
    if status == 429:
        return HubError("the hub asks to wait: too many requests", "Try again in some minutes.")
    more = f": {words}" if words else ""
    return HubError(f"the hub answers with an error ({status}){more}", "Try again later.")


def _with(hint: str, token: HubToken) -> str:
    """Return the hint; add the reason why a token was not sent, if there is one."""
    return f"{hint} The token of {token.source} cannot be used: {token.fault}." if token.fault else hint


def _said(response: Any) -> str:
    """Return the hub's own words; empty if it gives none."""
    words = response.headers.get("x-error-message", "")
    with suppress(Exception):  # a body may break off, or not be JSON
        if not words and int(response.headers.get("content-length", _MOST_WORDS + 1)) <= _MOST_WORDS:
            response.read()
            found = response.json()["error"]
            words = found if isinstance(found, str) else ""
    return " ".join(words.split())[:200].rstrip(".")


def _status(error: Exception) -> int:
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def _span(seconds: float) -> str:
    whole = ceil(seconds)
    if whole < 3600:
        return f"{whole} s" if whole < 120 else f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def why_later(status: int) -> str:
    return "too many requests" if status == 429 else "it is busy"


def seconds_to_wait(response: Any) -> float:
    """Return the seconds that the hub asks to wait; 0 if it does not say."""
    headers: Mapping[str, str] = response.headers
    given = headers.get("retry-after", "").strip()
    seconds = 0.0
    with suppress(ValueError):
        seconds = float(given)
    with suppress(ValueError, TypeError):
        if not seconds and given:
            seconds = (parsedate_to_datetime(given) - _its_time(headers)).total_seconds()
    if not given:
        from huggingface_hub.utils._http import parse_ratelimit_headers

        limit = parse_ratelimit_headers(headers)
        seconds = float(limit.reset_in_seconds) if limit and not limit.remaining else 0.0
    return min(seconds, 1e9) if isfinite(seconds) and seconds > 0 else 0.0


def _its_time(headers: Mapping[str, str]) -> datetime:
    """Return the time on the hub's own clock, because this machine's clock may be wrong."""
    try:
        return parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return datetime.now(UTC)


def _in_words(error: Exception) -> str:
    """Return the reason why the network or a file failed, without error numbers."""
    if "Timeout" in type(error).__name__:
        return "no answer in time"
    return _ERRNO.sub("", str(error)) or type(error).__name__


def endpoint() -> str:
    """Return the hub's address: from the environment if set, else the public one."""
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
