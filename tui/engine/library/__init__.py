"""What this machine's model files are, before a native library touches them."""
