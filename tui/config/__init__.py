"""The settings of a user, and the file that holds them."""

from .file import ConfigError as ConfigError
from .file import Problem as Problem
from .file import change_config as change_config
from .file import example as example
from .file import read_config as read_config
from .file import read_value as read_value
from .file import show_setting as show_setting
from .file import show_value as show_value
from .settings import Appearance as Appearance
from .settings import CacheSpace as CacheSpace
from .settings import Engine as Engine
from .settings import Generation as Generation
from .settings import History as History
from .settings import Keys as Keys
from .settings import Models as Models
from .settings import Preset as Preset
from .settings import Settings as Settings
