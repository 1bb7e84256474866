"""Saved states: the KV caches of chats on disk, so that a chat of yesterday need not be read again."""
