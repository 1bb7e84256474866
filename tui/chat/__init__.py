"""The chat without a terminal: its conversation, requests, settings and figures.

It imports no Textual, so that commands can use it and tests need no screen. It draws nothing.
"""
