"""A benchmark as JSON, for `--json`. It contains no path."""

from __future__ import annotations

from collections.abc import Mapping
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


def _means(series: Series) -> dict[str, Mapping[str, float | None]]:
    """Return, by temperature and by category (or "all"), the geometric mean of the speed-ups."""
    return {f"{temperature:g}": means for temperature, means in mean_ratios(series.results).items()}


def _draft(series: Series) -> dict[str, Any]:
    draft = series.loaded.draft
    return {
        "draft": draft.name if draft else None,
        "draft_quantization": draft.quantization if draft else None,
        "draft_size": draft.size if draft else None,
        "peak_memory": series.peak_memory,
        "rounding": to_builtins(series.rounding) if series.rounding else None,
        "geometric_means": _means(series),
        "acceptance_by_position": [accepted / reached for reached, accepted in joined(series.results)],
    }


def _result(result: Result, series: Series) -> dict[str, Any]:
    draft = series.loaded.draft
    return {
        "prompt": result.prompt.text,
        "category": result.prompt.category,
        "temperature": result.temperature,
        "draft": draft.name if draft else None,
        "plain_tokens_per_second": result.plain.tokens_per_second,
        "drafted_tokens_per_second": result.drafted.tokens_per_second,
        "ratio": result.ratio,
        "plain_spread": result.plain.spread,
        "drafted_spread": result.drafted.spread,
        "acceptance_rate": result.acceptance_rate,
        "tokens_per_round": result.tokens_per_round,
        "draft_length": result.draft_length,
        "plain_time_to_first_token": result.plain.time_to_first_token,
        "drafted_time_to_first_token": result.drafted.time_to_first_token,
        "plain_runs": result.plain.runs,
        "drafted_runs": result.drafted.runs,
        "reached_by_position": [position.reached for position in result.positions],
        "accepted_by_position": [position.accepted for position in result.positions],
        "same_text": result.differs_at is None,
        "differs_at": result.differs_at,
        "parting": result.parting or None,
        "not_drafting": result.not_drafting or None,
    }
