"""What the transcript costs, measured in a real pty: `python -m tools.bench.transcript` prints a table.

Times are this machine's and vary with its load; what must hold is that they do not grow with the length.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import resource
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.app import App, ComposeResult

from tests.support.terminal import Terminal
from tui.protocol import Origin
from tui.widgets.transcript import Transcript

Token = tuple[str, int]
WORDS = (
    "the draft model rides ahead and proposes tokens while main checks them all in one pass so text is sooner"
)


def tokens(count: int, seed: int = 1) -> list[Token]:
    """About `count` tokens of Markdown, of about four characters, with their origins."""
    draw = random.Random(seed)
    words = WORDS.split()
    pieces: list[str] = []
    while len(pieces) < count:
        kind = draw.random()
        if kind < 0.1:
            pieces += ["## ", *(f"{draw.choice(words)} " for _ in range(4)), "\n\n"]
        elif kind < 0.25:
            for _ in range(5):
                pieces += [
                    "- ",
                    "**",
                    draw.choice(words),
                    "**",
                    *(f" {draw.choice(words)}" for _ in range(9)),
                    "\n",
                ]
            pieces.append("\n")
        elif kind < 0.4:
            pieces.append("```python\n")
            for number in range(8):
                pieces += ["def ", draw.choice(words), "(x", "): ", "return ", f"{number}", " + x", "\n"]
            pieces += ["```", "\n\n"]
        else:
            pieces += [f"{draw.choice(words)} " for _ in range(60)]
            pieces += ["`code`", ".", "\n\n"]
    origins = draw.choices((Origin.DRAFT, Origin.MAIN, Origin.PLAIN), (68, 30, 2), k=count)
    return list(zip(pieces[:count], map(int, origins), strict=True))


class Bench(App[None]):
    def __init__(self, target: Path) -> None:
        super().__init__()
        self.target = target
        self.results: dict[str, float] = {}

    def compose(self) -> ComposeResult:
        yield Transcript()

    def on_mount(self) -> None:
        self.run_worker(self.measure())

    async def settle(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0.05)

    async def measure(self) -> None:
        transcript = self.query_one(Transcript)
        await self.settle()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        await self.conversation(transcript)
        for count in (100, 5_000, 20_000):
            await self.frames(transcript, count)
            if count == 5_000:
                await self.toggle(transcript)
        for name, block in PATHOLOGICAL.items():
            await self.stalls(transcript, name, block)
        self.target.write_text(json.dumps(self.results))
        self.exit()

    async def frames(self, transcript: Transcript, count: int) -> None:
        transcript.writer.clear()
        transcript.writer.begin("assistant")
        stream = tokens(count + 400)
        begin = time.process_time()
        transcript.writer.append(stream[:count])
        transcript.writer.text_of(0)
        self.results[f"bulk of {count} tokens, ms"] = (time.process_time() - begin) * 1e3
        await self.settle()
        costs = []
        for at in range(count, count + 400, 4):
            begin = time.process_time()
            transcript.writer.append(stream[at : at + 4])
            await asyncio.sleep(1 / 28)
            costs.append((time.process_time() - begin) * 1e3)
        costs.sort()
        self.results[f"frame at {count} tokens, ms CPU, mean"] = sum(costs) / len(costs)
        self.results[f"frame at {count} tokens, ms CPU, p95"] = costs[len(costs) * 95 // 100]

    async def toggle(self, transcript: Transcript) -> None:
        """From the key to the strips being painted again: what is left is the terminal's part."""
        spent = []
        for mode in ("full", "off", "quiet") * 3:
            painted = asyncio.Event()
            begin = time.perf_counter()
            transcript.highlight = mode
            transcript.call_after_refresh(painted.set)
            await painted.wait()
            spent.append((time.perf_counter() - begin) * 1e3)
            await self.settle()
        self.results["toggle at 5000 tokens, ms to painted, worst of 9"] = max(spent)

    async def stalls(self, transcript: Transcript, name: str, block: str) -> None:
        """The longest time that the event loop stood still, streaming a block in 300 pieces and at once."""
        transcript.writer.clear()
        worst = 0.0
        step = len(block) // 300 + 1
        for pieces, pause in (
            ([block[at : at + step] for at in range(0, len(block), step)], 0.004),
            ([block], 0.1),
        ):
            transcript.writer.begin("assistant")
            for piece in pieces:
                transcript.writer.append([(piece, Origin.DRAFT)])
                begin = time.perf_counter()
                await asyncio.sleep(pause)
                worst = max(worst, time.perf_counter() - begin - pause)
            begin = time.perf_counter()
            transcript.writer.finish()
            await asyncio.sleep(0)
            worst = max(worst, time.perf_counter() - begin)
            await self.settle()
        self.results[f"longest stall: {name}, ms"] = worst * 1e3

    async def conversation(self, transcript: Transcript) -> None:
        transcript.writer.clear()
        gc.collect()
        before = _resident()
        begin = time.process_time()
        for number in range(200):
            transcript.writer.begin("assistant")
            transcript.writer.append(tokens(1_000, number))
            transcript.writer.finish()
        self.results["200 messages of 1000 tokens, s CPU to build"] = time.process_time() - begin
        await self.settle()
        gc.collect()
        self.results["200 messages of 1000 tokens, MB"] = (_resident() - before) / 1e6
        begin = time.perf_counter()
        transcript.conversation.lay(0, 60, False)
        self.results["200 messages of 1000 tokens, resize, ms"] = (time.perf_counter() - begin) * 1e3


def _resident() -> int:
    """Bytes of this process in memory; the peak where the system does not tell the present."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


PATHOLOGICAL = {
    "one line of 1 MB": "word " * 200_000,
    "one line of 1 MB without spaces": "x" * 1_000_000,
    "one line of 300,000 wide characters": "中文测试字" * 60_000,
    "a fence of 25,000 lines": "```python\n" + "def f(x): return x + 1  # why\n" * 25_000 + "```\n",
    "a table of 2,000 rows": "| a | b | c |\n|---|---|---|\n" + "| one | **two** | three |\n" * 2_000,
    "a list of 2,000 items": "- an item with *some* words\n" * 2_000,
    "500 quotes deep": ">" * 500 + " deep\n",
    "500 lists deep": "".join("  " * depth + "- item\n" for depth in range(500)),
    "8,000 open brackets": "[" * 8_000,
    "8,000 backticks apart": "` `` ``` " * 900,
    "8,000 stars": "*a _b " * 1_300,
    "8,000 links": "[a](" * 2_000,
}


def main() -> None:
    with TemporaryDirectory() as folder:
        target = Path(folder) / "results.json"
        command = [sys.executable, "-m", "tools.bench.transcript", "--child", str(target)]
        with Terminal(command, rows=40, columns=120) as terminal:
            terminal.exit(600)
        for name, value in json.loads(target.read_text()).items():
            print(f"{value:10.1f}  {name}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        Bench(Path(sys.argv[2])).run()
    else:
        main()
