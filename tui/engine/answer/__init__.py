"""One answer: a conversation to tokens, tokens to rounds, rounds to text; and the inspection of an old
answer."""
