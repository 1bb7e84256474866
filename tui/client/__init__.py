"""The app's end of the pipe: it starts the engine, talks to it, and outlives it.

`EngineClient` knows commands, events and the death of an engine. It shows nothing, keeps no conversation and
never imports the engine. It passes events on unchanged: their texts are foreign and must be cleaned before
they are shown. The texts of errors are clean.
"""

from .child import engine_environment
from .downloads import Downloads, Item
from .engine import AnswerEvent, EngineClient, State
from .engine_errors import EngineDied, EngineError
from .hub import HubClient

__all__ = [
    "AnswerEvent",
    "Downloads",
    "EngineClient",
    "EngineDied",
    "EngineError",
    "HubClient",
    "Item",
    "State",
    "engine_environment",
]
