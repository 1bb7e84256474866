"""The load screen alone, on a library of made-up models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from msgspec.structs import replace

from tests.support.alone import Themed
from tui.choices import LOOKUP, NONE
from tui.client import EngineError
from tui.config.last import PairSettings
from tui.protocol import (
    DraftsJudged,
    DraftVerdict,
    FoundModel,
    JudgeDrafts,
    ListModels,
    Load,
    MemoryPlanned,
    MemoryUse,
    ModelsFound,
    ModelsListed,
    PlanMemory,
    Question,
    Reply,
    Requantize,
    Requantized,
    Requantizing,
    Skipped,
    WorkerState,
)
from tui.screens.models import ModelsScreen
from tui.widgets.rows import Rows

FAMILIES = ("Qwen2.5 7B Instruct", "Llama 3.1 8B Instruct", "Gemma 3 12B it", "Mistral Small 24B")

REASON = (
    "another tokenizer: only models of one family can draft "
    "(differs at id 128,009: '<|eom_id|>' against '<|end|>')"
)


def model(number: int, name: str, parameters: int, source: str = "LM Studio", **more: Any) -> FoundModel:
    values: dict[str, Any] = {
        "path": f"/models/maker/{name.replace(' ', '-')}-{number}.gguf",
        "name": name,
        "source": source,
        "backend": "llama.cpp",
        "architecture": "llama",
        "parameters": parameters,
        "quantization": "Q4_K_M",
        "size": parameters * 5 // 8,
        "context_length": 131_072,
        "vocabulary": 128_256,
        "tokenizer": "gpt2",
        "fingerprint": "f",
        "prompt_form": "template",
        "license": "apache-2.0",
    }
    return FoundModel(**(values | more))


MANY = tuple(
    model(n, f"{FAMILIES[n % 4]} {n}", (n + 1) * 10**9 // 2, ("LM Studio", "Ollama")[n % 2])
    for n in range(40)
)

VERDICTS = (
    DraftVerdict(
        MANY[1].path, "Llama 3.2 1B", "recommended", "same tokenizer, 1/8 of the main model's size", 2.1, 14
    ),
    DraftVerdict(MANY[2].path, "Llama 3.2 3B", "possible", "same tokenizer, but 38%: seldom pays", 1.2),
    DraftVerdict(LOOKUP, "lookup", "possible", "repeats text already in the chat, no extra model"),
    DraftVerdict(NONE, "no draft", "possible", "plain decoding", 1.0),
    DraftVerdict(MANY[3].path, "Phi 3.5 mini", "no", REASON),
)

GPU = MemoryUse("NVIDIA GeForce RTX 4090", 22 * 10**9, 24 * 10**9, 5 * 10**9, 10**9, 2 * 10**9, 6 * 10**8)

WORKER = MemoryUse(
    "gpu2", 70 * 10**9, 80 * 10**9, 6 * 10**9, 0, 2 * 10**9, 6 * 10**8, layers=24, round_trip=0.0004
)

HOST = MemoryUse("memory", 50 * 10**9, 64 * 10**9, 4 * 10**8, 10**8, 0, 10**8)


class Library:
    """Stands for the client: replies that are given."""

    host = None

    def __init__(
        self, *models: FoundModel, skipped: tuple[Skipped, ...] = (), fault: str = "", room: int = 22 * 10**9
    ) -> None:
        self.models, self.skipped, self.fault = models, skipped, fault
        self.judged: list[str] = []
        self.planned: list[Load] = []
        self.copied: list[Requantize] = []
        self.copies_end = False
        """Whether the copy of a draft is finished soon."""
        self.room = room
        """Bytes that are free on the GPU: below 8.6 GB a shorter context is proposed, below 6 GB nothing."""
        self.workers: tuple[WorkerState, ...] = ()

    def plan(self, load: Load) -> MemoryPlanned:
        self.planned.append(load)
        use = replace(GPU, free=self.room)
        fits = self.room > 6 * 10**9
        if fits and self.room < GPU.needed:
            load, use = replace(load, context_length=4096, cache_type="q8_0"), replace(use, cache=5 * 10**8)
        uses, workers = (use, HOST), self.workers
        if workers:
            uses = (*uses, WORKER)
        return MemoryPlanned(-3, load, load.context_length or 8192, fits, uses, workers)

    async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
        await asyncio.sleep(0)
        if self.fault:
            raise EngineError(self.fault, "Try again.")
        match question:
            case ListModels():
                for model in self.models:
                    yield ModelsFound(-1, (model,))
                yield ModelsListed(-1, self.skipped, 0.1)
            case JudgeDrafts():
                self.judged.append(question.load.main)
                yield DraftsJudged(-2, VERDICTS)
            case PlanMemory():
                yield self.plan(question.load)
            case Requantize():
                self.copied.append(question)
                yield Requantizing(-9, 150 * 10**6, 360 * 10**6)
                while not self.copies_end:
                    await asyncio.sleep(0.05)
                yield Requantized(-9, "/copies/draft-Q4_0.gguf", 350 * 10**6)


class Alone(Themed):
    """The load screen and nothing else."""

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        self.chosen: list[PairSettings | None] = []

    def on_mount(self) -> None:
        screen = ModelsScreen(self.library, Load(MANY[5].path))  # type: ignore[arg-type]
        self.push_screen(screen, self.chosen.append)

    @property
    def mains(self) -> Rows:
        return self.rows("mains")

    @property
    def drafts(self) -> Rows:
        return self.rows("drafts")
