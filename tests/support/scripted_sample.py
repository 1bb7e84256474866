"""The text of `scripted:sample`: one answer with every kind of Markdown that models are likely to use."""

SAMPLE = '''\
# Speculative decoding

A large model reads far faster than it writes. **Speculative decoding** uses that: a *small* model drafts a
few tokens, and the large one checks them all in a single pass. What both agree on is kept.

## One round

1. The draft model proposes a few tokens, one after the other.
2. The main model reads them in **one** pass and names its own choice at each place.
3. Up to the first disagreement the draft stands; there, the main model's own token follows.

> Every token is one the main model chose. A draft changes *when* it comes, never *what* it says.

The whole idea fits in a few lines of Python:

```python
def round(main, draft, context, length=4):
    """Return the tokens that one round adds to the context."""
    proposed = draft.propose(context, length)
    chosen = main.verify(context, proposed)  # one pass, length + 1 choices
    accepted = 0
    while accepted < len(proposed) and proposed[accepted] == chosen[accepted]:
        accepted += 1
    return proposed[:accepted] + [chosen[accepted]]
```

## When does it pay?

| Origin of a token | Who chose it   | What it costs                |
|:------------------|:---------------|:-----------------------------|
| Drafted, accepted | both agree     | a share of one shared pass   |
| Correction        | the main model | the rest of that pass        |
| Rejected           | the draft only | time, and nothing else       |

It depends on how often the two agree, and on what a guess costs:

- a **small** draft model is cheap, but is rejected more often
- a **large** one agrees more, but takes longer
  - with four times the size it must agree much more often
- `draft_length = 0` is plain decoding

### To try it

- [x] Load a main model
- [x] Load a draft model with the same vocabulary
- [ ] Compare the tokens per second with those of plain decoding

The original paper is [Fast Inference from Transformers](https://arxiv.org/abs/2211.17192) by Leviathan,
Kalman and Matias. Its title says *fast*, and the proof says ~~nearly~~ **exactly** the same distribution.

---

Greetings in other scripts: こんにちは, Здравствуйте, สวัสดี, and a rocket 🚀.
'''
