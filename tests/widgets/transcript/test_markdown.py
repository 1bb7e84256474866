"""Markdown to lines: what is shown, where each letter came from, and that pieces come out as the whole."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len

from tui.protocol import Origin
from tui.widgets.transcript import code_blocks, style_codes
from tui.widgets.transcript.blocks import Code
from tui.widgets.transcript.incremental import STRETCH, WINDOW
from tui.widgets.transcript.layout import wrap
from tui.widgets.transcript.markdown import new_parser
from tui.widgets.transcript.message import MessageBlock
from tui.widgets.transcript.table import Table, fit

PARSER = new_parser()
UNICODE = new_parser(unicode=True)
BOX = "│┌┬┐├┼┤└┴┘─"

Row = tuple[str, str, bytes, bytes]


def read(
    text: str,
    width: int = 40,
    origins: list[int] | None = None,
    show_rejected: bool = False,
    parser: MarkdownIt = PARSER,
) -> MessageBlock:
    """An answer that came in one piece, or in letters of those origins."""
    message = MessageBlock("assistant", parser)
    message.write([(text, Origin.DRAFT)] if origins is None else zip(text, origins, strict=True))
    message.end()
    message.read()
    message.lay(width, show_rejected)
    return message


def rows(message: MessageBlock) -> list[Row]:
    """Prefix, text, looks and origins of every line."""
    found = []
    for line in range(message.height):
        block, number = message.locate(line)
        begin, end = block.line(number)
        marked = block.paintable()
        prefix = block.first if number == 0 else block.rest
        found.append((prefix, marked.text[begin:end], marked.looks[begin:end], marked.origins[begin:end]))
    return found


def lines(text: str, width: int = 40) -> list[str]:
    return [(prefix + shown).rstrip() for prefix, shown, _, _ in rows(read(text, width))]


CORPUS = {
    "# One\n\nText.\n## Two ##": ["One", "", "Text.", "", "Two"],
    "soft\nbreak\n  of lines": ["soft", "break", "of lines"],
    "- a\n  b\n\n  c\n  d\n1. e\n   f": ["• a", "  b", "", "  c", "  d", "", "1. e", "   f"],
    "**bold\nover** lines": ["bold", "over lines"],
    "hard  \nbreak\\\nagain": ["hard", "break", "again"],
    "**b** *i* ***bi*** ~~s~~ `c` `` a`b ``": ["b i bi s c a`b"],
    "snake_case_name 2*3*4 a * b": ["snake_case_name 234 a * b"],
    "&amp; &lt; &copy; &#65; &nosuch; \\* \\a": ["& < © A &nosuch; * \\a"],
    "[text](http://u/p_q \"title\")": ["text (http://u/p_q)"],
    "[http://u](http://u) <http://a.b>": ["http://u http://a.b"],
    "<me@x.org>": ["me@x.org"],
    "[a **b**](u) ![alt *x*](i.png) ![](i.png)": ["a b (u) alt x (i.png) image (i.png)"],
    "[x](javascript:alert(1))": ["[x](javascript:alert(1))"],
    "[text][ref]\n\n[ref]: http://u": ["[text][ref]", "", "[ref]: http://u"],
    "a <b>c</b>\n\n<div>\n  x\n</div>": ["a <b>c</b>", "", "<div>", "  x", "</div>"],
    "- a\n- b\n  - c\n    - d\n- e": ["• a", "• b", "  ◦ c", "    ▪ d", "• e"],
    "- a\n\n- b": ["• a", "", "• b"],
    "3. a\n4. b\n\ntext": ["3. a", "4. b", "", "text"],
    "1) a\n2) b": ["1) a", "2) b"],
    "- - x": ["•", "  ◦ x"],
    "- > x": ["•", "  ▎ x"],
    "1. # x": ["1. x"],
    "- [ ] a\n- [x] b": ["• [ ] a", "• [x] b"],
    "- a\n\n  b\n\n      code": ["• a", "", "  b", "", "  code"],
    "- a\n  ```\n  x\n    y\n  ```\n- b": ["• a", "  x", "    y", "", "• b"],
    "> a\n> b\n>\n> > c": ["▎ a", "▎ b", "▎", "▎ ▎ c"],
    "> - a\n> - b\n\nc": ["▎ • a", "▎ • b", "", "c"],
    "```py\nx = 1\n\n\ty\n```\nafter": ["x = 1", "", "    y", "", "after"],
    "~~~\n```\n~~~": ["```"],
    "```\nopen": ["open"],
    "```\n```": [""],
    "    indented\n\n    code": ["indented", "", "code"],
    "a\n\n---\n\nb": ["a", "", "─" * 40, "", "b"],
    "| a | b |\n|---|--:|\n| 1 | 2 |\n| \\| | `x` |": [
        "┌───┬───┐",
        "│ a │ b │",
        "├───┼───┤",
        "│ 1 │ 2 │",
        "│ | │ x │",
        "└───┴───┘",
    ],
    "a | b\n:-:|--:\nlong | longer\n中 |": [
        "┌──────┬────────┐",
        "│  a   │      b │",
        "├──────┼────────┤",
        "│ long │ longer │",
        "│  中  │        │",
        "└──────┴────────┘",
    ],
    "a\tb": ["a b"],
    "": [],
    "\n\n  \n": [],
}  # fmt: skip

BREAKS = {
    "one<br>two<br/>three<BR />four</br>five": ["one", "two", "three", "four", "five"],
    "one<br>\ntwo<br> \n three": ["one", "two", "three"],
    "one<br><br>two": ["one", "", "two"],
    "one<br>\n\ntwo": ["one", "", "two"],
    "<br>\n**two**": ["", "two"],
    "- a<br>b\n- c": ["• a", "  b", "• c"],
    "> a<br>b": ["▎ a", "▎ b"],
    "# a<br>b": ["a", "b"],
    "[a<br>b](u)": ["a", "b (u)"],
    "`a<br>b` \\<br> &lt;br>": ["a<br>b <br> <br>"],
    "```\na<br>b\n```": ["a<br>b"],
    "    a<br>b": ["a<br>b"],
    "<b>a</b> H<sub>2</sub>O <brx>": ["<b>a</b> H<sub>2</sub>O <brx>"],
    "| a |\n|---|\n| one<br>two<br> |\n| `x<br>` |": [
        "┌───────┐",
        "│ a     │",
        "├───────┤",
        "│ one   │",
        "│ two   │",
        "│ x<br> │",
        "└───────┘",
    ],
}  # fmt: skip


@pytest.mark.parametrize("text", BREAKS, ids=range(len(BREAKS)))
def test_br_breaks_a_line_but_for_in_code(text: str) -> None:
    assert lines(text) == BREAKS[text]


def emphasised(text: str) -> list[str]:
    """The stretches of a line that look bold, italic or struck."""
    (row,) = rows(read(text, 80))
    found = [""]
    for char, look in zip(row[1], row[2], strict=True):
        if look & (style_codes.BOLD | style_codes.ITALIC | style_codes.STRIKE):
            found[-1] += char
        elif found[-1]:
            found.append("")
    return [each for each in found if each]


EMPHASIS = {
    "**注：**正文和**「词」**以及**词。**后": ["注：", "「词」", "词。"],
    "语言（**词**）和**（词）**后": ["词", "（词）"],
    "她说**“好！”**然后走": ["“好！”"],
    "文字**`x = 1`**文字": ["x = 1"],
    "*（斜）*字~~（删）~~字": ["（斜）", "（删）"],
    "これは*「例」*です**。**": ["「例」", "。"],
    "이것은 **단어(word)**이다": ["단어(word)"],
    "คำ**(ไทย)**ครับ": ["(ไทย)"],
    "中***粗、***文": ["粗、"],
    "**Note:**text and **“so”**called": ["Note:", "“so”"],
    "2*(3+4)*5 and 2 ** 3": [],
    "x**(1/2)**y": [],
    "f(*args, **kwargs) * 值 * 值": [],
    "_（下）_ snake_（下）_case": ["（下）"],
    "** 空 ** 中** 空**": [],
}


@pytest.mark.parametrize("text", EMPHASIS, ids=range(len(EMPHASIS)))
def test_emphasis_needs_no_spaces_beside_punctuation(text: str) -> None:
    assert emphasised(text) == EMPHASIS[text]


UNDERLINED = ["Title\n-", "Title\n--", "Title\n=", "Title\n=====", "a = b\n  -"]


@pytest.mark.parametrize("text", UNDERLINED)
def test_no_line_becomes_a_heading_by_what_follows(text: str) -> None:
    for end in range(len(text) + 1):
        assert all(not any(marks) for _, _, marks, _ in rows(read(text[:end])))
    assert lines(text) == [line.strip() for line in text.split("\n")]


def test_a_rule_may_follow_a_line() -> None:
    assert lines("a\n---\nb") == ["a", "", "─" * 40, "", "b"]


FENCED = {
    "```markdown\n# T\n```python\nx\n```\nend\n```\nafter": ["# T\n```python\nx\n```\nend\n"],
    "```md\n1. a\n    ```sh\n    b\n    ```\n```\n\n```\nc\n```": [
        "1. a\n    ```sh\n    b\n    ```\n",
        "c\n",
    ],
    "~~~Markdown title=x\n~~~js\na\n~~~\n~~~": ["~~~js\na\n~~~\n"],
    "````markdown\n```sh\na\n````\nb": ["```sh\na\n"],
    "```markdown\n````sh\n```\n````\n```\nb": ["````sh\n```\n````\n"],
    "```markdown\n```md\n```py\na\n```\n```\n```\nb": ["```md\n```py\na\n```\n```\n"],
    "```markdown\n```py\n```js\n```\n```\nb": ["```py\n```js\n```\n"],
    "```markdown\n```not` an opening\n```\nb": ["```not` an opening\n"],
    "```py\n```js\n```\nb": ["```js\n"],
    "- x\n  ```markdown\n  ```py\n  a\n  ```\n  b\n  ```\n- y": ["```py\na\n```\nb\n"],
    "- x\n  ```markdown\n  ```py\n  a\n\ny": ["```py\na\n\n"],
}


@pytest.mark.parametrize("text", FENCED, ids=range(len(FENCED)))
def test_fences_nest_in_a_fence_of_markdown(text: str) -> None:
    assert code_blocks(text) == FENCED[text]
    for whole in (True, False):
        message = MessageBlock("assistant", PARSER)
        for piece in [text] if whole else text:
            message.write([(piece, 1)])
            message.read()
        message.end()
        message.read()
        shown = [block.body.text.rstrip("\n") for block in message.blocks if isinstance(block, Code)]
        assert shown == [code.rstrip("\n") for code in FENCED[text]]


def test_a_long_fence_of_markdown_remembers_what_is_open_in_it() -> None:
    text = "```markdown\n```py\n" + "x = 1\n" * 2_000 + "```\nend\n```\nafter"
    draw = random.Random(1)
    message = MessageBlock("assistant", PARSER)
    at = 0
    while at < len(text):
        step = draw.randint(1, 500)
        message.write([(text[at : at + step], 1)])
        message.read()
        at += step
    message.end()
    message.read()
    message.lay(40, False)
    assert [shown for _, shown, _, _ in rows(message)][-4:] == ["```", "end", "", "after"]
    assert rows(message) == rows(read(text, origins=[1] * len(text)))


VERBATIM = [
    r"\(\{a_1, b\}\) and \[x \\ y\] and $a*b*c$ or $a_{i}*b_{j}*c$",
    r"$f_*(x) = g_*(x)$, $\{x \mid x > 0\}$, $x < y > z$, $a\_b$, $\$5$",
    r"\( open \{ and *here*",
    r"\begin{cases} a & b \\ c & d \end{cases}",
    "$$\n\\{a\\}\n+ *b*\n- c *d*\n# e\n$$",
    "So:\\[\n\\begin{pmatrix} 1 & 2 \\\\\n> 3 & 4 \\end{pmatrix}\n\\]\nafter",
    "text \\[\n- a\n+ b\n\\]",
    "\\[\n- open \\{a",
    "$$\n1. *open*",
    "\\begin{align*}\n- x &= y \\\\\n- z\n\\end{align*}",
    "$a\n+b$ and \\(a\n*b*\\)",
]


@pytest.mark.parametrize("text", VERBATIM, ids=range(len(VERBATIM)))
def test_formulas_stay_as_they_are_written(text: str) -> None:
    assert lines(text, 100) == text.split("\n")
    assert not any(any(marks) for _, _, marks, _ in rows(read(text, 100)))


def test_formulas_stand_in_lists_quotes_cells_and_emphasis() -> None:
    assert lines("1. x:\n   \\[\n   - \\{a\\}\n   \\]\n2. y") == [
        "1. x:",
        "   \\[",
        "   - \\{a\\}",
        "   \\]",
        "2. y",
    ]
    assert lines("> $$\n> - \\{a\\}\n> $$") == ["▎ $$", "▎ - \\{a\\}", "▎ $$"]
    assert lines("| $\\{a\\}$ |\n|---|\n| $b_*c*$ |")[1::2] == ["│ $\\{a\\}$ │", "│ $b_*c*$ │"]
    assert emphasised("**so $a*b$** [*$c*$*](u)")[0] == "so $a*b$"


NO_FORMULA = {
    r"\$5 and \$6": "$5 and $6",
    "costs $5 **or** $6": "costs $5 or $6",
    "$5 **each** and 10$": "$5 each and 10$",
    "**$5**-**$6**": "$5-$6",
    "**$5** or 6$ and $5/kg *or* 6$": "$5 or 6$ and $5/kg or 6$",
    "$HOME *and* `x$`": "$HOME and x$",
    r"\\(*a*\\)": r"\(a\)",
    "it is $$$ *dear*": "it is $$$ dear",
    "`\\[` *and*": "\\[ and",
    r"\* \_ \`": "* _ `",
}


@pytest.mark.parametrize("text", NO_FORMULA, ids=range(len(NO_FORMULA)))
def test_prices_and_escapes_are_no_formulas(text: str) -> None:
    assert lines(text) == [NO_FORMULA[text]]


IN_UNICODE = {
    r"\( a \times b \)": "a × b",
    r"$x_1$, $x_1^2$, $x_{i+1}$ and $n$": "x₁, x₁², xᵢ₊₁ and n",
    r"\(\frac{1}{2}\) $\frac{a + b}{c_1}$ $\frac12$": "½ (a + b)/c₁ ½",
    r"\[\sum_{i=1}^{n} i\] $\int_0^\infty e^{-x}$": "∑ᵢ₌₁ⁿ i ∫₀^∞ e⁻ˣ",
    "$$\nE = mc^2,\n\\quad c > 0\n$$": "E = mc², c > 0",
    r"$\alpha \to \Omega$, $x \in \mathbb{R}^n$": "α → Ω, x ∈ ℝⁿ",
    r"$\sqrt{2} \neq \sqrt{x+1}$ $90^\circ$": "√2 ≠ √(x+1) 90°",
    r"$\{x \mid x > 0\}$ $5\%$": "{x | x > 0} 5%",
    r"$\left( \log n \right)$ $\text{if } x_k = \mathrm{max}$": "( log n ) if xₖ = max",
    r"$e^{i\pi}$ $x_A$ $f_*(x)$": "e^(iπ) x_A f_*(x)",
    r"**so $a*b$**": "so a*b",
}
NOT_SIMPLE = [
    *(
        r"\(\unknown{x}\)",
        r"\[a \\ b\]",
        r"$a & b_1$",
        r"\begin{x} a_1 \end{x}",
        r"$x_$",
        r"$x_{1$",
        r"$x_1}$",
    ),
    *(
        "$}{_$",
        r"$\frac{1}$",
        r"\( open_1",
        r"\(x\]",
        r"$\sqrt[3]{x}$",
        "$" + "{" * 90 + "x" + "}" * 90 + "_1$",
    ),
    *("$PATH_a/home:$", "$a=$b", "$1,000 or $2,000 (in US$)", "${a}_${b}", "it costs 5$ to 10$"),
]
IN_UNICODE |= {each: each for each in NOT_SIMPLE}


@pytest.mark.parametrize("text", IN_UNICODE, ids=range(len(IN_UNICODE)))
def test_simple_formulas_are_shown_in_unicode(text: str) -> None:
    (row,) = rows(read(text, 400, parser=UNICODE))
    assert row[1] == IN_UNICODE[text]


def test_formulas_in_code_stay() -> None:
    text = "`$x_1$`\n\n```\n\\(x_1\\)\n```"
    assert [row[1] for row in rows(read(text, parser=UNICODE))] == ["$x_1$", "", "\\(x_1\\)"]


PARTS = [*IN_UNICODE, " ", "\n", "\n\n", "- ", "> ", "word ", "**", "| "]


def test_a_list_may_follow_a_price() -> None:
    assert lines("Price: $$\n- a") == ["Price: $$", "", "• a"]


@pytest.mark.parametrize("text", CORPUS, ids=range(len(CORPUS)))
def test_markdown_is_shown(text: str) -> None:
    assert lines(text) == CORPUS[text]


def test_a_narrow_table_wraps_its_cells() -> None:
    table = "| name | what it is |\n|---|---|\n| draft | the small model that rides ahead |"
    shown = lines(table, 26)
    assert shown == [
        "┌───────┬────────────────┐",
        "│ name  │ what it is     │",
        "├───────┼────────────────┤",
        "│ draft │ the small      │",
        "│       │ model that     │",
        "│       │ rides ahead    │",
        "└───────┴────────────────┘",
    ]


def test_columns_give_way_from_the_widest() -> None:
    assert fit([3, 50, 10], 100) == [3, 50, 10]
    assert fit([3, 50, 10], 40) == [3, 17, 10]
    assert fit([50, 50], 27) == [10, 10]
    assert sorted(fit([50, 49], 20)) == [6, 7]
    assert fit([9] * 10, 20) == [4] * 10


SAMPLES = [
    "plain words that wrap at the edge of a narrow line, and averyveryverylongwordwithoutanyspace at last",
    "中文测试，中文测试。中文（测试）中文测试中文测试",
    "mixed 中文 and English 日本語テキスト、カタカナ word",
    "👩\u200d💻👨\u200d👩\u200d👧👍🏽 emoji ❤\ufe0f and e\u0301 combining z\u0335\u0336\u0337algo",
    "한국어 문장은 공백으로 나뉜다",
    "   leading and    inner   spaces   ",
]


@pytest.mark.parametrize("text", SAMPLES)
@pytest.mark.parametrize("words", [True, False])
def test_lines_fit_and_nothing_is_lost(text: str, words: bool) -> None:
    for width in range(2, 60):
        starts = list(wrap(text, width, words))
        cut = [text[a:b] for a, b in pairwise([*starts, len(text)])]
        assert "".join(cut) == text
        assert all(cell_len(line.rstrip(" ") if words else line) <= width for line in cut)


def test_words_stay_whole_where_they_fit() -> None:
    text = "every word of this line is shorter than the width"
    starts = [*wrap(text, 12), len(text)]
    assert [text[a:b].strip() for a, b in pairwise(starts)] == [
        "every word",
        "of this line",
        "is shorter",
        "than the",
        "width",
    ]


def test_closing_punctuation_never_starts_a_line() -> None:
    text = "中文中文，" * 20
    for width in range(4, 30):
        assert all(text[start] != "，" for start in wrap(text, width))


FRAGMENTS = [
    *(
        "# head\n",
        "para word\n",
        "two words\n",
        "\n",
        "\n\n",
        "- item\n",
        "  - nested\n",
        "1. one\n",
        "> quote\n",
    ),
    *(
        ">> deep\n",
        "```py\n",
        "x = 1\n",
        "```\n",
        "~~~\n",
        "| a | b |\n",
        "|---|:-:|\n",
        "| 1 | 2 |\n",
        "---\n",
    ),
    *(
        "===\n",
        "    code\n",
        "<div>\n",
        "</div>\n",
        "<!-- c\n",
        "-->\n",
        "**b**",
        "*i*",
        "`c`",
        "~~s~~",
        "\t",
        " ",
    ),
    *(
        "[l](http://u)",
        "![i](u)",
        "<http://a>",
        "&amp;",
        "\\*",
        "  \n",
        "\\\n",
        "# ",
        "-",
        "1.",
        "`",
        "``",
        "*",
        "_",
    ),
    *(
        "[",
        "](",
        "#",
        "+ ",
        "[r]: http://x\n",
        "中文",
        "👩\u200d💻",
        "e\u0301",
        "&#8238;",
        "- [ ] t\n",
        "|",
        "\r\n",
    ),
    *(
        "<br>",
        "<br/>\n",
        "**：",
        "（*",
        "~~。",
        "```markdown\n",
        "  ```sh\n",
        "$",
        "$x_1$",
        "$$",
        "$$\n",
        "\\(",
        "\\)",
    ),
    *(
        "\\[",
        "\\[\n",
        "\\]",
        "\\]\n",
        "\\begin{x}\n",
        "\\end{x}",
        "\\frac{1}{2}",
        "\\alpha",
        "_2",
        "^{n+1}",
        "{",
    ),
]


def document(draw: random.Random, most: int = 40) -> str:
    return "".join(draw.choice(FRAGMENTS) for _ in range(draw.randint(1, most)))


def streamed(text: str, origins: list[int], draw: random.Random, parser: MarkdownIt = PARSER) -> MessageBlock:
    """The same answer, read after each of many small pieces."""
    message = MessageBlock("assistant", parser)
    at = 0
    while at < len(text):
        step = draw.choice((1, 1, 2, 3, 7))
        message.write(zip(text[at : at + step], origins[at : at + step], strict=True))
        if draw.random() < 0.3:
            message.preview()
        else:
            message.read()
        message.lay(40, False)
        at += step
    message.end()
    message.read()
    message.lay(40, False)
    return message


@pytest.mark.parametrize("seed", range(400))
def test_streamed_in_pieces_is_the_whole(seed: int) -> None:
    draw = random.Random(seed)
    text = document(draw)
    origins = [draw.choice((0, 1, 2)) for _ in text]
    parser = (PARSER, UNICODE)[seed % 2]
    whole = rows(read(text, origins=origins, parser=parser))
    assert rows(streamed(text, origins, draw, parser)) == whole


@pytest.mark.parametrize("seed", range(400))
def test_every_letter_has_the_origin_of_its_source(seed: int) -> None:
    draw = random.Random(seed)
    text = document(draw)
    message = read(text, origins=[draw.choice((0, 1, 2)) for _ in text])
    for block in message.blocks:
        marked = block.paintable()
        if not marked.places:
            continue
        assert list(marked.places) == sorted(marked.places)
        for char, place, origin in zip(marked.text, marked.places, marked.origins, strict=True):
            if char in BOX or (BOX[0] in marked.text and char in " \n"):
                continue  # drawn by the table, not written by a model
            source = message.source[place]
            assert origin == message.origins[place]
            assert (
                char == source
                or source == "&"
                or (char, source) in ((" ", "\n"), (" ", "\t"), ("\n", "\\"), ("\n", "<"))
                or char in " ()"
            )


@pytest.mark.parametrize("seed", range(200))
def test_letters_of_formulas_have_the_origin_of_their_source(seed: int) -> None:
    draw = random.Random(seed)
    text = "".join(draw.choice(PARTS) for _ in range(12))
    message = read(text, origins=[draw.choice((0, 1, 2)) for _ in text], parser=UNICODE)
    for block in message.blocks:
        marked = block.paintable()
        if isinstance(block, Table):
            continue
        assert list(marked.places) == sorted(marked.places)
        assert [message.origins[place] for place in marked.places] == list(marked.origins)


def test_a_letter_of_a_formula_knows_where_it_is_written() -> None:
    text = r"So $\alpha_1 + \frac{x}{12}$ and b"
    marked = read(text, parser=UNICODE).blocks[0].body
    assert marked.text == "So α₁ + x/12 and b"
    for letter, written in {
        "S": "S",
        "α": r"\alpha",
        "₁": "1",
        "+": "+",
        "x": "x",
        "/": "{12",
        "2": "2}",
        "b": "b",
    }.items():
        assert text.startswith(written, marked.places[marked.text.index(letter)])


# Found by search: what a line is may be settled only by the line after it, a table's second one for example.
LATE = "- [x] t\n[===\n|- item\n\t|---|:-:|\n| 1 | 2 |\n"


def test_no_block_is_settled_before_its_second_line() -> None:
    draw = random.Random(0)
    for _ in range(20):
        assert rows(streamed(LATE, [1] * len(LATE), draw)) == rows(read(LATE))


def test_letters_of_code_that_touches_backticks_keep_their_origins() -> None:
    text = "x `` `a` `` y `b` z"
    (row,) = rows(read(text, origins=[int(char in "ab") for char in text]))
    assert row[1] == "x `a` y b z"
    assert [char for char, origin in zip(row[1], row[3], strict=True) if origin] == ["a", "b"]


def test_words_keep_their_origins_through_markup() -> None:
    words = {f"w{number:03}": number % 3 for number in range(24)}
    names = list(words)
    text = (
        "# {} {}\n\n{} **{}** *{}* `{}` ~~{}~~ [{}]({})\n\n- {}\n  1. {} {}\n\n> {}\n> {}\n\n"
        "```\n{}\n{}\n```\n\n| {} | {} |\n|---|---|\n| {} | **{}** |\n\n<div>{}</div>\n\n    {}\n\n{}  \n{}"
    ).format(*names)
    origins = [0] * len(text)
    for name, origin in words.items():
        at = text.index(name)
        origins[at : at + 4] = [origin] * 4
    message = read(text, 30, origins)
    shown = "".join(shown for _, shown, _, _ in rows(message))
    marks = b"".join(marks for _, _, _, marks in rows(message))
    for name, origin in words.items():
        at = shown.index(name)
        assert marks[at : at + 4] == bytes((origin,)) * 4, name


def test_code_is_highlighted_also_while_it_grows() -> None:
    text = "```python\ndef f():\n    return 'x'  # why\n"
    message = read(text)
    (_, first, marks, _), (_, second, more, _) = rows(message)
    assert first == "def f():" and marks[:3] == bytes((style_codes.KEYWORD,)) * 3
    assert more[second.index("'x'")] == style_codes.STRING
    assert more[second.index("#")] == style_codes.COMMENT


def test_an_unknown_language_is_plain_code() -> None:
    assert set(rows(read("```nosuch\ndef f\n```"))[0][2]) == {style_codes.FENCE}


def test_rejected_text_stands_where_it_was_rejected_and_is_no_source() -> None:
    message = MessageBlock("assistant", PARSER)
    message.write([("One **two", 1), (" nope", 3), ("\n", 3), ("** three", 2), ("\n\n- item", 1), (" no", 3)])
    message.end()
    message.read()
    message.lay(40, False)
    assert message.source == "One **two** three\n\n- item"
    assert [shown for _, shown, _, _ in rows(message)] == ["One two three", "", "item"]
    message.lay(40, True)
    assert [shown for _, shown, _, _ in rows(message)] == ["One two nope↵ three", "", "item no"]
    marks = rows(message)[0][3]
    assert marks == bytes([1] * 7 + [3] * 6 + [2] * 6)
    message.lay(40, False)
    assert [shown for _, shown, _, _ in rows(message)] == ["One two three", "", "item"]


def test_rejected_text_inside_a_word_stands_between_its_letters() -> None:
    message = MessageBlock("assistant", PARSER)
    message.write([("in", 1), ("put", 3), ("side", 2)])
    message.end()
    message.read()
    message.lay(40, True)
    assert rows(message)[0][1] == "inputside"
    assert rows(message)[0][3] == bytes((1, 1, 3, 3, 3, 2, 2, 2, 2))


def test_rejected_text_after_a_settled_block_shows_at_once_and_moves_on() -> None:
    message = MessageBlock("assistant", PARSER)
    seen = []
    for pieces in ([("```\nx\n```\n", 1)], [(" a", 3)], [("\n", 1), (" b", 3)], [("text", 1)]):
        message.write(pieces)
        message.read()
        message.lay(40, True)
        seen.append([shown for _, shown, _, _ in rows(message)])
    assert seen == [["x"], ["x a"], ["x a b"], ["x a", "", " btext"]]


def test_so_many_brackets_are_shown_as_they_are_written() -> None:
    shown = lines("- [a](u)\n" * 1_200)
    assert shown[0] == shown[900] == "• a (u)"
    assert shown[1_100] == "• [a](u)"


@pytest.mark.parametrize("seed", range(100))
def test_every_rejected_letter_is_shown_once(seed: int) -> None:
    draw = random.Random(seed)
    text = document(draw)
    message = MessageBlock("assistant", PARSER)
    rejected = ""
    for char in text:
        message.write([(char, 1)])
        if draw.random() < 0.3:
            message.write([("Ж", 3)])
            rejected += "Ж"
        if draw.random() < 0.5:
            message.read()
            message.lay(40, True)
    message.end()
    message.read()
    message.lay(40, True)
    shown = "".join(shown for _, shown, _, _ in rows(message))
    blank = not any(block.begin is not None for block in message.blocks)
    assert shown.count("Ж") == (0 if blank else len(rejected))


DEEP = {
    "quotes": ">" * 500 + " deep",
    "lists": "".join("  " * depth + "- item\n" for depth in range(500)),
    "both": "> - " * 250 + "deep",
}


@pytest.mark.parametrize("name", DEEP)
def test_what_is_nested_too_deep_is_shown_as_it_is_written(name: str) -> None:
    text = DEEP[name]
    shown = lines(text, 4_000)
    assert shown == [line.rstrip() for line in text.rstrip("\n").split("\n")]


LONG = {
    "one line": "word " * 20_000,
    "no spaces": "x" * 50_000,
    "a paragraph": "some words\n" * 5_000,
    "a table": "| a | b |\n|---|---|\n" + "| 1 | 2 |\n" * 4_000,
    "a list": "- item\n" * 5_000,
    "a fence": "```py\n" + "x = 1\n" * 5_000 + "```\n\nafter",
    "a fence of one line": "```py\n" + "x" * 50_000 + "\n```\n\nafter",
    "a line after text": "# head\n\n" + "y" * 2 * WINDOW + "\n\n# after",
    "many blocks": "para\n\n- item\n\n```\ncode\n```\n\n" * 2_000,
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_block_comes_out_the_same_in_pieces(name: str) -> None:
    text = LONG[name]
    whole = read(text)
    message = MessageBlock("assistant", PARSER)
    for at in range(0, len(text), 1_777):
        message.write([(text[at : at + 1_777], Origin.DRAFT)])
        message.read()
    message.end()
    message.read()
    message.lay(40, False)
    assert rows(message) == rows(whole)
    assert all(len(block.body.text) <= WINDOW + STRETCH for block in whole.blocks)


def test_a_long_fence_is_still_code_and_ends() -> None:
    message = read(LONG["a fence"])
    shown = rows(message)
    assert [shown for _, shown, _, _ in shown] == ["x = 1"] * 5_000 + ["", "after"]
    assert shown[4_999][2][0] >= style_codes.FENCE


def test_reading_on_does_not_look_at_what_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    from tui.widgets.transcript import incremental

    real = incremental.parse
    monkeypatch.setattr(
        incremental, "parse", lambda parser, text: (seen.append(len(text)), real(parser, text))[1]
    )
    message = MessageBlock("assistant", PARSER)
    for _ in range(500):
        message.write([("A paragraph of some words.\n\n", 1)])
        message.read()
    assert max(seen) < 200
