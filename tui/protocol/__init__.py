"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package defines the messages, and writes and reads them. It opens no
pipe, keeps no state and imports only the standard library and `errors`. `terms.py` has the small types that
the others use, `chat.py` the messages about a loaded pair, `library.py` those about models on disk and on the
hub, `messages.py` the direction of each message, and `lines.py` the JSON.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from .terms import BackendName, CacheType, Effort, Origin, PromptForm, Reason, Role, Round, Thinking

if TYPE_CHECKING:
    from .chat import (
        Busy,
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
        Rounding,
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
    "Busy",
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
    "Effort",
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
    "Rounding",
    "Rounds",
    "Sampling",
    "SearchHub",
    "SetDraftLength",
    "Skipped",
    "Statistics",
    "Thinking",
    "Unload",
    "Unloaded",
    "decode_command",
    "decode_event",
    "encode",
    "rebuild",
]


def __getattr__(name: str) -> object:
    """Create the classes when the first of them is used: making them takes longer than the first paint."""
    if name in __all__:
        for part in ("lines", "chat", "library", "messages"):
            found = vars(import_module(f"{__name__}.{part}"))
            if name in found:
                globals().update((each, found[each]) for each in __all__ if each in found)
                return found[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
