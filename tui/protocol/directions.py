"""The direction of each message: commands go from the app to the engine, events come back."""

from __future__ import annotations

from . import generation, library

HubQuestion = library.SearchHub | library.ListHub | library.Download
"""Questions that only the hub can answer."""
Question = (
    library.ListModels | library.DescribeModel | library.JudgeDrafts | library.PlanMemory
    | library.ProposePairs | library.CountStates | library.ForgetStates | library.SurveyWorkers | HubQuestion
)  # fmt: skip
"""Questions about the library. The engine answers them beside all its other work, `ForgetStates` after it."""
Reply = (
    library.ModelsFound | library.ModelsListed | library.ModelDescribed | library.DraftsJudged
    | library.MemoryPlanned | library.PairsProposed | library.StatesCounted | library.StatesForgotten
    | library.WorkersSurveyed | library.HubFound | library.HubListed | library.Downloading
    | library.Downloaded
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
