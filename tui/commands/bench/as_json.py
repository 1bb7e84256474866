"""A benchmark as JSON, for `--json`. It contains no path."""

from __future__ import annotations

from typing import Any

from msgspec import to_builtins

from ...choices import AUTO
from .results import Bench, Result, Series, joined, mean_ratios


def as_json(bench: Bench) -> dict[str, Any]:
    """Return everything as JSON values: seconds, bytes, shares from 0 to 1. Unknown values are null."""
    plan, first = bench.plan, bench.series[0].loaded
    results = [result for series in bench.series for result in series.results]
    return {
        "date": bench.date,
        "version": bench.version,
        "complete": bench.complete,
        "main": first.main.name,
        "main_quantization": first.main.quantization,
        "main_size": first.main.size,
        "backend": first.backend,
        "device": first.device,
        "seed": plan.seed,
        "max_tokens": plan.max_tokens,
        "runs": plan.runs,
        "draft_length": None if plan.draft_length == AUTO else plan.draft_length,
        "lookup": plan.lookup,
        "same_text": sum(result.differs_at is None for result in results),
        "drafts": [_draft(series) for series in bench.series],
        "results": [_result(result, series) for series in bench.series for result in series.results],
    }


def _draft(series: Series) -> dict[str, Any]:
    draft = series.loaded.draft
    return {
        "draft": draft.name if draft else None,
        "draft_quantization": draft.quantization if draft else None,
        "draft_size": draft.size if draft else None,
        "peak_memory": series.peak_memory,
        "rounding": to_builtins(series.rounding) if series.rounding else None,
        "geometric_means": {f"{at:g}": means for at, means in mean_ratios(series.results).items()},
        "acceptance_by_position": [accepted / reached for reached, accepted in joined(series.results)],
    }


def _result(result: Result, series: Series) -> dict[str, Any]:
    draft = series.loaded.draft
    same = ("temperature", "ratio", "acceptance_rate", "tokens_per_round", "draft_length", "differs_at")
    return {
        "prompt": result.prompt.text,
        "category": result.prompt.category,
        "draft": draft.name if draft else None,
        **{name: getattr(result, name) for name in same},
        **{f"plain_{name}": value for name, value in vars(result.plain).items()},
        **{f"drafted_{name}": value for name, value in vars(result.drafted).items()},
        "reached_by_position": [position.reached for position in result.positions],
        "accepted_by_position": [position.accepted for position in result.positions],
        "same_text": result.differs_at is None,
        "parting": result.parting or None,
        "not_drafting": result.not_drafting or None,
    }
