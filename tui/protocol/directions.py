"""The direction of each message: commands go from the app to the engine, events come back."""

from __future__ import annotations

from . import generation, hub, library

HubQuestion = hub.SearchHub | hub.ListHub | hub.LookInside | hub.Download
"""Questions that only the hub can answer."""
Question = (
    library.ListModels | library.DescribeModel | library.JudgeDrafts | library.PlanMemory
    | hub.ProposePairs | library.CountStates | library.ForgetStates | library.SurveyWorkers
    | library.Requantize | HubQuestion
)  # fmt: skip
"""Questions about the library. The engine answers them beside all its other work, `ForgetStates` after it."""
Reply = (
    library.ModelsFound | library.ModelsListed | library.ModelDescribed | library.DraftsJudged
    | library.MemoryPlanned | hub.PairsProposed | library.StatesCounted | library.StatesForgotten
    | library.WorkersSurveyed | hub.HubFound | hub.HubListed | hub.HubInside
    | hub.Downloading | hub.Downloaded | library.Requantizing | library.Requantized
)  # fmt: skip
Command = (
    generation.Load | generation.Generate | generation.Inspect | generation.Count | generation.Cancel
    | generation.SetDraftLength | generation.Unload | generation.Ping | generation.Quit | Question
)  # fmt: skip
Event = (
    generation.Hello | generation.Loading | generation.Loaded | generation.Unloaded | generation.Prefill
    | generation.Rounds | generation.Finished | generation.Inspected | generation.Counted
    | generation.Failed | generation.Notice | generation.Busy | generation.NotDrafting | generation.Pong
    | Reply
)  # fmt: skip
