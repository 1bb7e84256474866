"""Prompts and answers as the store keeps them, and a process that writes some."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.paths import ROOT
from tui.protocol import Origin, Statistics, TextRound
from tui.store.changes import AddMessage, AppendRounds, Change, FinishAnswer, StartConversation, Turn


def round_of(text: str, rejected: str = "") -> TextRound:
    pieces = ((text, int(Origin.DRAFT)), *(((rejected, int(Origin.REJECTED)),) if rejected else ()))
    return TextRound(pieces, (1, 2), 3, 1, 2, 0.25, 0.125, 0.0625, 40)


def exchange(chat: str, number: int, prompt: str, answer: str, parent: str = "") -> list[Change]:
    """A prompt and its answer, as the app writes them."""
    ask, reply = f"{chat}-{number}-ask", f"{chat}-{number}-reply"
    return [
        *([StartConversation(chat, prompt)] if not parent else []),
        AddMessage(chat, Turn(ask, parent, "user", prompt)),
        AddMessage(chat, Turn(reply, ask, "assistant", main="main", draft="draft", settings='{"seed": 7}')),
        AppendRounds(reply, 0, (round_of(answer, "no"),)),
        FinishAnswer(reply, answer, "stop", Statistics(tokens=2, tokens_per_second=50.0)),
    ]


_WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.support.exchanges import exchange

from tui.store.recovery import salvage
from tui.store.keeper import Keeper

async def main(path, name, count):
    keeper = Keeper(Path(path))
    parent = ""
    for number in range(count):
        keeper.add(*exchange(name, number, f"prompt {{number}}", "word " * 50, parent))
        await keeper.settle()
        assert not keeper.fault, keeper.fault
        print(number, flush=True)
        parent = f"{{name}}-{{number}}-reply"
    await keeper.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[bytes]:
    code = _WRITER.format(root=str(ROOT))
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path), name, str(count)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
