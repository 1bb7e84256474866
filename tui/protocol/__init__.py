"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package knows the shapes and how to write and read them; it opens no
pipe, keeps no state and imports nothing but the standard library. `terms.py` has what the rest is made of,
`chat.py` what is said of a loaded pair, `library.py` what is said of the models on disk and on the hub,
`messages.py` which of it goes which way, `lines.py` the lines.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .terms import BackendName, CacheType, Origin, PromptForm, Reason, Role, Round

if TYPE_CHECKING:
    from .chat import (
        Cancel,
        Candidate,
        Count,
        Counted,
        Failed,
        Finished,
        Generate,
        Hello,
        Inspect,
        Inspected,
        Load,
        Loaded,
        Loading,
        Message,
        ModelInfo,
        Notice,
        Ping,
        Place,
        Pong,
        Prefill,
        Quit,
        Rounds,
        Sampling,
        SetDraftLength,
        Statistics,
        Unload,
        Unloaded,
    )
    from .library import (
        DescribeModel,
        Download,
        Downloaded,
        Downloading,
        DraftsJudged,
        DraftVerdict,
        FoundModel,
        HubFile,
        HubFound,
        HubListed,
        HubPair,
        HubRepository,
        JudgeDrafts,
        Judgement,
        ListHub,
        ListModels,
        MemoryPlanned,
        MemoryUse,
        ModelDescribed,
        ModelsFound,
        ModelsListed,
        PairsProposed,
        PlanMemory,
        ProposePairs,
        SearchHub,
        Skipped,
    )
    from .lines import (
        MAX_LINE,
        PROTOCOL,
        ProtocolError,
        decode_command,
        decode_event,
        encode,
        rebuild,
    )
    from .messages import Command, Event, HubQuestion, Question, Reply

__all__ = [
    "MAX_LINE",
    "PROTOCOL",
    "BackendName",
    "CacheType",
    "Cancel",
    "Candidate",
    "Command",
    "Count",
    "Counted",
    "DescribeModel",
    "Download",
    "Downloaded",
    "Downloading",
    "DraftVerdict",
    "DraftsJudged",
    "Event",
    "Failed",
    "Finished",
    "FoundModel",
    "Generate",
    "Hello",
    "HubFile",
    "HubFound",
    "HubListed",
    "HubPair",
    "HubQuestion",
    "HubRepository",
    "Inspect",
    "Inspected",
    "JudgeDrafts",
    "Judgement",
    "ListHub",
    "ListModels",
    "Load",
    "Loaded",
    "Loading",
    "MemoryPlanned",
    "MemoryUse",
    "Message",
    "ModelDescribed",
    "ModelInfo",
    "ModelsFound",
    "ModelsListed",
    "Notice",
    "Origin",
    "PairsProposed",
    "Ping",
    "Place",
    "PlanMemory",
    "Pong",
    "Prefill",
    "PromptForm",
    "ProposePairs",
    "ProtocolError",
    "Question",
    "Quit",
    "Reason",
    "Reply",
    "Role",
    "Round",
    "Rounds",
    "Sampling",
    "SearchHub",
    "SetDraftLength",
    "Skipped",
    "Statistics",
    "Unload",
    "Unloaded",
    "decode_command",
    "decode_event",
    "encode",
    "rebuild",
]


def __getattr__(name: str) -> object:
    """All but the terms comes when it is first asked for: making the classes takes longer than painting."""
    if name in __all__:
        for part in ("lines", "chat", "library", "messages"):
            found = vars(import_module(f"{__name__}.{part}"))
            if name in found:
                globals().update((each, found[each]) for each in __all__ if each in found)
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
