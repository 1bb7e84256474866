"""Values that settings and protocol share. The command line needs them before anything heavy is imported."""

from typing import Literal

CacheType = Literal["f16", "q8_0"]
"""The number format of a KV cache: 16 bits, or 8 bits and a scale for every 32 numbers."""

BackendName = Literal["auto", "llama.cpp", "mlx"]
"""The library that runs a model; "auto" chooses it by the file or folder."""

Thinking = Literal["auto", "on", "off"]
"""Whether a model should think before it answers; "auto" leaves this to its chat template."""

Effort = Literal["auto", "minimal", "low", "medium", "high", "max"]
"""How much a model should think, if its chat template knows that."""
