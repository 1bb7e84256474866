"""The screen of the hub alone, on an engine that finds the same models always."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from tests.support.alone import Themed
from tui.choices import HEAD
from tui.client import Downloads, EngineError
from tui.protocol import (
    Download,
    Downloaded,
    Downloading,
    HubFile,
    HubFound,
    HubInside,
    HubListed,
    HubPair,
    HubRepository,
    ListHub,
    LookInside,
    PairsProposed,
    ProposePairs,
    Question,
    Reply,
    SearchHub,
)
from tui.screens.hub import HubScreen

GB = 10**9

PAIRS = tuple(
    HubPair(f"Model {n}", f"maker/Model-{n}B-GGUF:Q4_K_M", "maker/Model-0.5B-GGUF:Q4_K_M", n * GB, at_most)
    for n, at_most in ((14, 8.0), (7, None), (3, 20.0), (24, 1.4))
)

WITH_HEADS = (
    HubPair("Model 9B", "maker/Model-9B-MTP-GGUF:Q4_K_M", HEAD, 9 * GB, head=True),
    HubPair(
        "Model 5B", "maker/Model-5B-GGUF:Q4_K_M", "maker/Model-5B-GGUF:mtp-Model-5B.gguf", 5 * GB, head=True
    ),
)

FOUND = (
    HubRepository("maker/Model-7B-GGUF", 1_234_567, 99, False, "GGUF"),
    HubRepository("closed/Model-GGUF", 88_000, 9, True, "GGUF"),
    HubRepository("mlx/Model-7B-4bit", 12_000, 4, False, "MLX"),
)

FILES = (
    HubFile("Model-Q3_K_S.gguf", 3 * GB, 1, "llama.cpp", "Q3_K_S"),
    HubFile("Model-Q4_K_M.gguf", 5 * GB, 1, "llama.cpp", "Q4_K_M"),
    HubFile("Model-F16-00001-of-00002.gguf", 15 * GB, 2, "llama.cpp", "F16"),
)


class Engine:
    """Stands for the client: replies that are given; a download stays at a third until it may go on."""

    def __init__(self, fault: str = "") -> None:
        self.fault = fault
        self.asked: list[Question] = []
        self.go_on = asyncio.Event()
        self.heads: tuple[HubFile, ...] = ()
        self.inside: tuple[str, ...] = ()
        """The names of files with their own heads."""
        self.pairs = PAIRS
        self.reason = self.note = ""

    async def ask(self, question: Question) -> AsyncGenerator[Reply, None]:
        self.asked.append(question)
        await asyncio.sleep(0)
        if self.fault:
            raise EngineError(self.fault, "Check the network.")
        match question:
            case ProposePairs():
                yield PairsProposed(-1, self.pairs)
            case SearchHub():
                yield HubFound(-1, FOUND if "nothing" not in question.words else ())
            case ListHub():
                files = () if self.note else (*FILES, *self.heads)
                yield HubListed(-1, question.repository, files, "apache-2.0", 12 * GB, self.note)
            case LookInside():
                yield HubInside(-1, question.file in self.inside)
            case Download():
                yield Downloading(-1, "Model-Q4_K_M.gguf", GB, 3 * GB, self.reason)
                await self.go_on.wait()
                yield Downloaded(-1, "/models/Model-Q4_K_M.gguf", 3 * GB)


class Alone(Themed):
    """The screen and nothing else."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.engine = Engine(fault)
        self.downloads = Downloads(self.engine, lambda: 0.0)  # type: ignore[arg-type]
        self.left: list[None] = []

    def on_mount(self) -> None:
        self.push_screen(HubScreen(self.engine, self.downloads), self.left.append)  # type: ignore[arg-type]

    @property
    def wanted(self) -> list[tuple[str, str]]:
        return [(each.repository, each.file) for each in self.engine.asked if isinstance(each, Download)]
