"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package knows the shapes and how to write and read them; it opens no
pipe, keeps no state and imports nothing but the standard library. `chat.py` has what is said of a loaded pair,
`library.py` what is said of the models on disk and on the hub, `lines.py` the lines.
"""

from .chat import BackendName, CacheType, Cancel, Failed, Finished, Generate, Hello, Load, Loaded, Loading, Message, ModelInfo, Notice, Origin, Ping, Pong, Prefill, Quit, Reason, Role, Round, Sampling, SetDraftLength, Statistics, Unload, Unloaded
from .library import DeviceMemory, DraftVerdict, DraftsJudged, Fetch, Fetched, Fetching, FoundModel, HubModel, HubSearched, JudgeDrafts, Judgement, ListModels, ListRepository, MemoryPart, MemoryPlanned, ModelsFound, ModelsListed, PairsProposed, PlanMemory, ProposePairs, ProposedPair, Repository, RepositoryListed, SearchHub, Skipped
from .lines import MAX_LINE, PROTOCOL, Command, Event, ProtocolError, Question, Reply, decode_command, decode_event, encode

__all__ = ['BackendName', 'CacheType', 'Cancel', 'Command', 'DeviceMemory', 'DraftVerdict', 'DraftsJudged', 'Event', 'Failed', 'Fetch', 'Fetched', 'Fetching', 'Finished', 'FoundModel', 'Generate', 'Hello', 'HubModel', 'HubSearched', 'JudgeDrafts', 'Judgement', 'ListModels', 'ListRepository', 'Load', 'Loaded', 'Loading', 'MAX_LINE', 'MemoryPart', 'MemoryPlanned', 'Message', 'ModelInfo', 'ModelsFound', 'ModelsListed', 'Notice', 'Origin', 'PROTOCOL', 'PairsProposed', 'Ping', 'PlanMemory', 'Pong', 'Prefill', 'ProposePairs', 'ProposedPair', 'ProtocolError', 'Question', 'Quit', 'Reason', 'Reply', 'Repository', 'RepositoryListed', 'Role', 'Round', 'Sampling', 'SearchHub', 'SetDraftLength', 'Skipped', 'Statistics', 'Unload', 'Unloaded', 'decode_command', 'decode_event', 'encode']
