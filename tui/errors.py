"""All errors that a person may see, as one tree. This module imports nothing.

A class stays in the module that raises it. The message is one line; the hint is the next step for the person.

OutriderError             tui.errors                    the root: anything that a person may see
  ConfigError             tui.config.file               the settings file cannot be read or written
  ThemeError              tui.themes                    a theme file cannot be used
  UsageError              tui.commands.setup            a command line asks for something impossible
  ProtocolError           tui.protocol.lines            a line is not a message of the protocol
  Unreadable              tui.store.keeper              the conversations cannot be read
  NotAttached             tui.chat.attachments          a file cannot go with a prompt
  EditorFailed            tui.screens.editor            the text editor could not be used
  HostError               tui.host                      a host has a senseless address or program
  EngineError             tui.client.call               a command failed; the engine keeps working
    EngineDied            tui.client.call               there is no engine any more
  GivenUp                 tui.engine.backends           the load, or the answer, is no longer wanted
  ModelError              tui.engine.backends           a model cannot be opened or run
    TemplateError         tui.engine.answer.templates   a chat template does not render this conversation
  BadModelFile            tui.engine.library.gguf       a file is no model that can be opened
    UnusableModelFile     tui.engine.library.gguf       the file is sound, and nothing here can open it
    UnreadableModelFile   tui.engine.library.gguf       the system does not let this user read the file
  LibraryError            tui.engine.library.names      the library does not have the wanted model
  HubError                tui.engine.library.hub_access     the hub does not give the wanted file or answer
    TryLater              tui.engine.library.hub_access     the hub names the time of the next try
  WorkerLost              tui.engine.machine.worker_link    a worker cannot be used, or is gone
  Unplanned               tui.engine.pair.memory_plan   nobody knows how much memory a pair needs
"""


class OutriderError(Exception):
    """An error of ours that a person may see."""

    hint = ""
    """The next step for a person, in one line; empty if there is none. A class may have a usual one."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.hint

    @property
    def line(self) -> str:
        """The message and the hint as sentences on one line."""
        ended = self.message if self.message.endswith((".", "!", "?")) else self.message + "."
        return f"{ended} {self.hint}".rstrip()
