"""Every command and event that the app and the engine exchange, as JSON lines.

The two processes meet only here. This package defines the messages, and writes and reads them. It opens no
pipe, keeps no state and imports nothing but msgspec, `errors` and `choices`. `terms.py` has the types
that the others use, `generation.py` the messages about a loaded pair, `library.py` those about models on
disk, `hub.py` those about the hub, `directions.py` the direction of each message, and `lines.py` the JSON.
"""

from ..choices import BackendName as BackendName
from ..choices import CacheType as CacheType
from ..choices import Effort as Effort
from ..choices import Thinking as Thinking
from .directions import *
from .generation import *
from .hub import *
from .library import *
from .lines import *
from .terms import *
