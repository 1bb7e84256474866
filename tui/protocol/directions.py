"""The direction of each message: commands go from the app to the engine, events come back."""

from __future__ import annotations

from .generation import (
    Busy,
    Cancel,
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
    NotDrafting,
    Notice,
    Ping,
    Pong,
    Prefill,
    Quit,
    Rounds,
    SetDraftLength,
    Unload,
    Unloaded,
)
from .library import (
    DescribeModel,
    Download,
    Downloaded,
    Downloading,
    DraftsJudged,
    HubFound,
    HubListed,
    JudgeDrafts,
    ListHub,
    ListModels,
    MemoryPlanned,
    ModelDescribed,
    ModelsFound,
    ModelsListed,
    PairsProposed,
    PlanMemory,
    ProposePairs,
    SearchHub,
)

HubQuestion = SearchHub | ListHub | Download
"""Questions that only the hub can answer."""
Question = ListModels | DescribeModel | JudgeDrafts | PlanMemory | ProposePairs | HubQuestion
"""Questions about the library. The engine answers them beside all its other work."""
Reply = (
    ModelsFound | ModelsListed | ModelDescribed | DraftsJudged | MemoryPlanned | PairsProposed
    | HubFound | HubListed | Downloading | Downloaded
)  # fmt: skip
Command = Load | Generate | Inspect | Count | Cancel | SetDraftLength | Unload | Ping | Quit | Question
Event = (
    Hello | Loading | Loaded | Unloaded | Prefill | Rounds | Finished | Inspected | Counted | Failed
    | Notice | Busy | NotDrafting | Pong | Reply
)  # fmt: skip
