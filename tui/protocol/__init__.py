"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package defines the messages, and writes and reads them. It opens no
pipe, keeps no state and imports nothing but msgspec and `errors`. `terms.py` has the small types that
the others use, `chat.py` the messages about a loaded pair, `library.py` those about models on disk and on the
hub, `messages.py` the direction of each message, and `lines.py` the JSON.
"""

from ..choices import BackendName as BackendName
from ..choices import CacheType as CacheType
from ..choices import Effort as Effort
from ..choices import Thinking as Thinking
from .chat import Busy as Busy
from .chat import Cancel as Cancel
from .chat import Candidate as Candidate
from .chat import Count as Count
from .chat import Counted as Counted
from .chat import Failed as Failed
from .chat import Finished as Finished
from .chat import Generate as Generate
from .chat import Hello as Hello
from .chat import Inspect as Inspect
from .chat import Inspected as Inspected
from .chat import Load as Load
from .chat import Loaded as Loaded
from .chat import Loading as Loading
from .chat import Message as Message
from .chat import ModelInfo as ModelInfo
from .chat import NotDrafting as NotDrafting
from .chat import Notice as Notice
from .chat import Obstacle as Obstacle
from .chat import Ping as Ping
from .chat import Place as Place
from .chat import Pong as Pong
from .chat import Prefill as Prefill
from .chat import Quit as Quit
from .chat import Rounding as Rounding
from .chat import Rounds as Rounds
from .chat import Sampling as Sampling
from .chat import SetDraftLength as SetDraftLength
from .chat import Statistics as Statistics
from .chat import Unload as Unload
from .chat import Unloaded as Unloaded
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
from .library import Judgement as Judgement
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
from .lines import ProtocolError as ProtocolError
from .lines import decode_command as decode_command
from .lines import decode_event as decode_event
from .lines import encode as encode
from .messages import Command as Command
from .messages import Event as Event
from .messages import HubQuestion as HubQuestion
from .messages import Question as Question
from .messages import Reply as Reply
from .terms import Origin as Origin
from .terms import PromptForm as PromptForm
from .terms import Reason as Reason
from .terms import Role as Role
from .terms import Round as Round
from .terms import Stage as Stage
