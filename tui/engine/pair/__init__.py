"""A main model with or without a draft: loaded, checked and timed, with the contexts in its caches."""
