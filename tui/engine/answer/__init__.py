"""One answer: a conversation to tokens, tokens to rounds, rounds to text; and an answer looked at again."""
