"""The workers in `outrider doctor`: devices, memory and link of each, or why it cannot be used."""

from __future__ import annotations

import asyncio
from typing import Any

from ..chat.requests import load_request
from ..client import EngineClient, EngineError, last_reply, running
from ..config import Settings
from ..protocol import SurveyedWorker, SurveyWorkers, WorkersSurveyed
from ..quantities import delay, size


def survey_workers(client: EngineClient, settings: Settings) -> dict[str, Any]:
    """Start the workers of the settings and return the findings as JSON values by name. Foreign text.

    The engine of `client` reaches them. Never fails.
    """
    try:
        found = asyncio.run(_asked(client, SurveyWorkers(0, load_request(settings).workers)))
    except EngineError as error:
        return {name: {"fault": error.line} for name in settings.engine.workers}
    return {each.name: _facts(each) for each in found.workers}


async def _asked(client: EngineClient, question: SurveyWorkers) -> WorkersSurveyed:
    async with running(client):
        return await last_reply(client.ask(question), WorkersSurveyed)


def _facts(worker: SurveyedWorker) -> dict[str, Any]:
    if worker.fault:
        return {"fault": worker.fault}
    return {
        "devices": list(worker.devices),
        "free": worker.free,
        "memory": worker.total,
        "round_trip": worker.round_trip,
    }


def worker_line(facts: dict[str, Any]) -> str:
    """Return the findings about one worker in words."""
    if fault := facts.get("fault"):
        return str(fault)
    memory = f"{size(facts['free'])} of {size(facts['memory'])} free"
    return " · ".join([", ".join(facts["devices"]), memory, f"{delay(facts['round_trip'])} there and back"])
