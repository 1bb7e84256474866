"""Describes the model files of this machine before a native library touches them."""
