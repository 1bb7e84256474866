"""The machine of the engine: processors, memories and limits. Nothing here opens a model."""
