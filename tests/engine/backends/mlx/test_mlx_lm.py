"""The parts of mlx-lm that our code rests on, each by its name: a newer version shows its changes here.

mlx-lm promises none of them. A failure here names the part; the behavior is tested beside this module.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module, metadata, util
from typing import Any

import pytest

pytest.importorskip("mlx_lm")

import mlx.core as mx
from mlx_lm import utils
from mlx_lm.models import cache

from tests.support import mlx_models
from tui.engine.backends.mlx import caches as ours

VERSION = metadata.version("mlx-lm")
PLACES = {
    cache.KVCache: {"keys", "values", "offset"},
    cache.QuantizedKVCache: {"keys", "values", "offset", "group_size", "bits"},
    cache.RotatingKVCache: {"keep", "max_size", "offset", "keys", "values"},
    cache.ChunkedKVCache: {"keys", "values", "offset", "chunk_size", "start_position"},
    cache.ArraysCache: {"cache"},
    cache.CacheList: {"caches"},
}
"""The attributes of each cache that we read or write."""
METHODS = {
    cache.KVCache: ("update_and_fetch", "trim", "keys_and_values", "make_mask"),
    cache.QuantizedKVCache: ("update_and_fetch", "trim", "keys_and_values"),
    cache.ChunkedKVCache: ("update_and_fetch", "trim", "keys_and_values", "maybe_trim_front"),
    cache.RotatingKVCache: ("update_and_fetch", "make_mask", "keys_and_values"),
    cache.ArraysCache: ("__getitem__", "__setitem__"),
}
ARGUMENTS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "utils.load_model": (utils.load_model, ("lazy", "strict", "trust_remote_code")),
    "cache.make_prompt_cache": (cache.make_prompt_cache, ("model",)),
    "cache.create_causal_mask": (cache.create_causal_mask, ("N", "offset", "window_size")),
    "cache.KVCache.make_mask": (cache.KVCache.make_mask, ()),
    "cache.RotatingKVCache.make_mask": (
        cache.RotatingKVCache.make_mask, ("N", "window_size", "return_array"),
    ),
}  # fmt: skip


def made(kind: type[Any]) -> Any:
    given: dict[type[Any], tuple[Any, ...]] = {
        cache.RotatingKVCache: (8,),
        cache.ChunkedKVCache: (8,),
        cache.ArraysCache: (2,),
        cache.CacheList: (cache.KVCache(),),
    }
    return kind(*given.get(kind, ()))


@pytest.mark.parametrize("kind", PLACES, ids=lambda kind: kind.__name__)
def test_a_cache_has_the_attributes_that_are_read_and_written(kind: type[Any]) -> None:
    missing = {name for name in PLACES[kind] if not hasattr(made(kind), name)}
    assert not missing, f"mlx-lm {VERSION}: {kind.__name__} has no {sorted(missing)} any more"
    assert hasattr(made(kind), "state"), f"mlx-lm {VERSION}: {kind.__name__}.state, for mx.eval, is gone"


@pytest.mark.parametrize("kind", METHODS, ids=lambda kind: kind.__name__)
def test_a_cache_has_the_methods_that_are_called(kind: type[Any]) -> None:
    missing = [name for name in METHODS[kind] if not callable(getattr(kind, name, None))]
    assert not missing, f"mlx-lm {VERSION}: {kind.__name__} has no {missing} any more"


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_function_takes_the_arguments_that_it_is_given(name: str) -> None:
    function, wanted = ARGUMENTS[name]
    known = inspect.signature(function).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in known.values())
    missing = [each for each in wanted if each not in known and not takes_all]
    assert not missing, f"mlx-lm {VERSION}: {name} takes no {missing} any more, but {[*known]}"


def test_the_names_of_architectures_are_where_they_are_looked_up() -> None:
    assert isinstance(utils.MODEL_REMAPPING, dict), f"mlx-lm {VERSION}: utils.MODEL_REMAPPING has changed"
    assert utils.MODEL_REMAPPING.get("mistral") == "llama", f"mlx-lm {VERSION}: a remapping has changed"
    for kind in mlx_models.ARCHITECTURES:
        assert util.find_spec(f"mlx_lm.models.{kind}"), f"mlx-lm {VERSION}: mlx_lm.models.{kind} is gone"
        module = import_module(f"mlx_lm.models.{kind}")
        assert hasattr(module, "Model"), f"mlx-lm {VERSION}: mlx_lm.models.{kind}.Model is gone"


@pytest.mark.parametrize("architecture", mlx_models.ARCHITECTURES)
def test_every_cache_of_an_architecture_is_of_a_known_kind(architecture: str) -> None:
    config = {
        **mlx_models._PLAIN, **mlx_models.ARCHITECTURES[architecture], "model_type": architecture,
    }  # fmt: skip
    module = import_module(f"mlx_lm.models.{architecture}")
    network = module.Model(module.ModelArgs.from_dict(config))
    found = ours.Caches(lambda: cache.make_prompt_cache(network))
    kinds = sorted({type(leaf).__name__ for leaf in ours.leaves(found.all)})
    assert not found.unknown, f"mlx-lm {VERSION}: {architecture} has a new kind of cache: {kinds}"
    scores = network(mx.array([[1, 2, 3]]), cache=found.all)
    assert scores.shape[:2] == (1, 3), f"mlx-lm {VERSION}: {architecture} gives scores of {scores.shape}"


def test_a_cache_of_all_entries_grows_and_is_trimmed_in_place() -> None:
    """A rewind only lowers `offset`: what is behind it is written over."""
    own = cache.KVCache()
    keys = mx.arange(8.0).reshape(1, 1, 4, 2)
    own.update_and_fetch(keys, keys)
    own.trim(2)
    assert own.offset == 2, f"mlx-lm {VERSION}: KVCache.trim no longer lowers offset"
    shown, _ = own.update_and_fetch(keys[..., :1, :] + 50, keys[..., :1, :])
    assert shown.tolist() == [[[[0, 1], [2, 3], [50, 51]]]], (
        f"mlx-lm {VERSION}: KVCache keeps trimmed entries"
    )
    assert own.keys.shape[2] >= own.offset, f"mlx-lm {VERSION}: KVCache.keys is no buffer of entries any more"


def test_its_server_uses_no_draft_on_several_machines() -> None:
    """Ours does; docs/several-machines.md names the difference."""
    from mlx_lm.server import ModelProvider

    provider = ModelProvider.__new__(ModelProvider)
    provider.is_distributed = True
    with pytest.raises(ValueError, match="draft models not supported in distributed mode"):
        provider._load("main", draft_model_path="draft")
