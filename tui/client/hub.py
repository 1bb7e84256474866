"""Questions about the hub from the app. For this machine a downloader answers them, for another machine the
engine there.

Only the downloader gets the user's variables for the hub, such as a token: no engine sees them, and they
never go to another machine. A downloader lives as long as its question and ends with the app.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

from .. import protocol
from .call import EngineError, error_of
from .child import hub_environment

if TYPE_CHECKING:
    from ..protocol import HubQuestion, Question, Reply
    from .engine import EngineClient

DOWNLOADER = (sys.executable, "-m", "tui.engine.downloader")


class HubClient:
    """Answers questions as `EngineClient.ask` does."""

    def __init__(self, engine: EngineClient, environ: Mapping[str, str]) -> None:
        """`environ` is the user's environment. Its variables for the hub go to the downloader alone."""
        self._engine = engine
        self._environ = environ

    async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
        """Yield the replies to `question`. Raises `EngineError`. Closing the iterator early stops a
        download."""
        here = self._engine.host is None and isinstance(question, protocol.HubQuestion)
        asked = self._downloader(cast("HubQuestion", question)) if here else self._engine.ask(question)
        async with aclosing(asked) as replies:
            async for reply in replies:
                yield reply

    async def _downloader(self, question: HubQuestion) -> AsyncGenerator[Reply, None]:
        pipe, nowhere = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        try:
            child = await asyncio.create_subprocess_exec(
                *DOWNLOADER, stdin=pipe, stdout=pipe, stderr=nowhere, cwd="/", start_new_session=True,
                env=hub_environment(self._environ), limit=protocol.MAX_LINE,
            )  # fmt: skip
        except OSError as error:
            raise EngineError(f"The download cannot be started: {error.strerror}") from None
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(protocol.encode(question))
            async for line in child.stdout:
                event = protocol.decode_event(line)
                if isinstance(event, protocol.Failed):
                    raise error_of(event)
                yield cast("Reply", event)
                if not isinstance(event, protocol.Downloading):
                    return
            raise EngineError("The download's process died", "Try again: it goes on from here.")
        except (protocol.ProtocolError, ValueError):
            raise EngineError("The download's process sent garbage", "Try again.") from None
        finally:
            with suppress(ProcessLookupError):
                child.kill()
            child.stdin.close()
            await child.wait()
