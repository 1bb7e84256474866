"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package defines the messages, and writes and reads them. It opens no
pipe, keeps no state and imports nothing but msgspec and `errors`. `terms.py` has the small types that
the others use, `generation.py` the messages about a loaded pair, `library.py` those about models on disk and
on the hub, `directions.py` the direction of each message, and `lines.py` the JSON.
"""

from ..choices import BackendName as BackendName
from ..choices import CacheType as CacheType
from ..choices import Effort as Effort
from ..choices import Thinking as Thinking
from .directions import Command as Command
from .directions import Event as Event
from .directions import HubQuestion as HubQuestion
from .directions import Question as Question
from .directions import Reply as Reply
from .generation import Busy as Busy
from .generation import Cancel as Cancel
from .generation import Count as Count
from .generation import Counted as Counted
from .generation import Failed as Failed
from .generation import Finished as Finished
from .generation import Generate as Generate
from .generation import Hello as Hello
from .generation import Inspect as Inspect
from .generation import Inspected as Inspected
from .generation import Load as Load
from .generation import Loaded as Loaded
from .generation import Loading as Loading
from .generation import Message as Message
from .generation import ModelFacts as ModelFacts
from .generation import NotDrafting as NotDrafting
from .generation import Notice as Notice
from .generation import Obstacle as Obstacle
from .generation import Ping as Ping
from .generation import Pong as Pong
from .generation import Prefill as Prefill
from .generation import Quit as Quit
from .generation import Rounding as Rounding
from .generation import Rounds as Rounds
from .generation import Sampling as Sampling
from .generation import SetDraftLength as SetDraftLength
from .generation import Statistics as Statistics
from .generation import TokenCandidate as TokenCandidate
from .generation import TokenInspection as TokenInspection
from .generation import Unload as Unload
from .generation import Unloaded as Unloaded
from .library import DescribeModel as DescribeModel
from .library import Download as Download
from .library import Downloaded as Downloaded
from .library import Downloading as Downloading
from .library import DraftsJudged as DraftsJudged
from .library import DraftVerdict as DraftVerdict
from .library import FoundModel as FoundModel
from .library import HubFile as HubFile
from .library import HubFound as HubFound
from .library import HubListed as HubListed
from .library import HubPair as HubPair
from .library import HubRepository as HubRepository
from .library import JudgeDrafts as JudgeDrafts
from .library import ListHub as ListHub
from .library import ListModels as ListModels
from .library import MemoryPlanned as MemoryPlanned
from .library import MemoryUse as MemoryUse
from .library import ModelDescribed as ModelDescribed
from .library import ModelsFound as ModelsFound
from .library import ModelsListed as ModelsListed
from .library import PairsProposed as PairsProposed
from .library import PlanMemory as PlanMemory
from .library import ProposePairs as ProposePairs
from .library import SearchHub as SearchHub
from .library import Skipped as Skipped
from .lines import MAX_LINE as MAX_LINE
from .lines import PROTOCOL as PROTOCOL
from .lines import Lines as Lines
from .lines import ProtocolError as ProtocolError
from .lines import decode_command as decode_command
from .lines import decode_event as decode_event
from .lines import encode as encode
from .terms import HeadKind as HeadKind
from .terms import Origin as Origin
from .terms import PromptForm as PromptForm
from .terms import Reason as Reason
from .terms import Stage as Stage
from .terms import TextRound as TextRound
