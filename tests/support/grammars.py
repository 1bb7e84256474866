"""GBNF grammars: good ones, and bad ones with the reason for their rejection."""

from __future__ import annotations

JSON = r"""
root   ::= object
value  ::= object | array | string | number | ("true" | "false" | "null") ws

object ::=
  "{" ws (
            string ":" ws value
    ("," ws string ":" ws value)*
  )? "}" ws

array  ::=
  "[" ws (
            value
    ("," ws value)*
  )? "]" ws

string ::=
  "\"" (
    [^"\\\x7F\x00-\x1F] |
    "\\" (["\\bfnrt] | "u" [0-9a-fA-F]{4}) # escapes
  )* "\"" ws

number ::= ("-"? ([0-9] | [1-9] [0-9]{0,15})) ("." [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws

# Optional space: by convention, applied in this grammar after literal chars when allowed
ws ::= | " " | "\n" [ \t]{0,20}
"""
"""llama.cpp's grammars/json.gbnf."""

GOOD = {
    "json": JSON,
    "arithmetic": r"""
        root  ::= (expr "=" ws term "\n")+
        expr  ::= term ([-+*/] term)*
        term  ::= ident | num | "(" ws expr ")" ws
        ident ::= [a-z] [a-z0-9_]* ws
        num   ::= [0-9]+ ws
        ws    ::= [ \t\n]*""".replace("        ", ""),
    "lists": 'root ::= item+\nitem ::= "- " [^\\r\\n\\x0b\\x0c\\x85\\u2028\\U00002029]+ "\\n"',
    "words": '# a comment\r\nroot ::= a-1 B2\r\na-1 ::= .\r\nB2 ::= 日本 | "語"'.replace("日本", '"日本"'),
    "nothing": 'root ::= ""',
    "empty alternatives": "root ::= | a\na ::= [a-] | [--a] | [\\]\\[\\-]",
    "a group over lines": 'root ::= (\n "a" # why\n | "b"\n)*',
    "repetitions": 'root ::= "a"{3} "b"{2,} "c"{0,4} "d"{0} "e"{0,0} "f"{ 1 , 2 } "g"+* "h"??',
    "as many as can be": "root ::= a{1999}\na ::= [a]",
    "a newline in quotes": 'root ::= "a\nb"',
    "deep": f"root ::= {'(' * 100}[a]{')' * 100}",
    "right recursion": 'root ::= "a" root | e e "b"\ne ::= "" | "c"',
}

BAD = {
    "": 'no rule "root"',
    "# nothing\n": 'no rule "root"',
    'other ::= "a"': 'no rule "root"',
    'root ::= "a"\n\nb ::= c': 'line 3: there is no rule "c"',
    'root ::= "a"\nroot ::= "b"': 'line 2: the rule "root" is there already',
    'root : "a"': 'line 1: expected "::="',
    'root ::= "a': "line 1: expected a character, a rule or a new line",
    "root ::= [a": "line 1: expected",
    "root ::= []": "line 1: expected",
    "root ::= [^]": "line 1: expected",
    'root ::= [^] root | "a"': "line 1: expected",
    'root ::= ("a"': r'line 1: expected "\)"',
    'root ::= "a")': "line 1: expected",
    '\n| "a"': "line 2: expected the name of a rule",
    'root ::= "a"\n  | "b"': "line 2: expected the name of a rule",
    'root ::= "\\q"': "line 1: expected",
    'root ::= "\\x4"': "line 1: expected",
    'root ::= "\\u123"': "line 1: expected",
    "root ::= *": "line 1: there is nothing to repeat",
    'root ::= "" *': "line 1: there is nothing to repeat",
    'root ::= "a"{0}*': "line 1: there is nothing to repeat",
    'root ::= "a"{': "line 1: expected a repetition",
    'root ::= "a"{,3}': "line 1: expected a repetition",
    'root ::= "a"{1,2': "line 1: expected a repetition",
    'root ::= "a"{2#}': "line 1: expected a repetition",
    'root ::= "a"{\n2}': "line 1: expected a repetition",
    'root ::= "a"{9999999999}': "line 1: expected a repetition",
    'root ::= "a"{3,2}': "line 1: a repetition ends below its beginning",
    'root ::= "a"{2000}': "line 1: it repeats more than 1999 times",
    'root ::= "a"{0,2001}': "line 1: it repeats more than 1999 times",
    'root ::= "a"{50}{50}': "line 1: it repeats more than 1999 times",
    'root ::= ("a"? "b"? "c"?){600}': "line 1: it repeats more than 1999 times",
    "root ::= <[5]>": "line 1: tokens by name or number",
    "root ::= !<think>": "line 1: tokens by name or number",
    f"root ::= {'(' * 101}[a]{')' * 101}": "line 1: more than 100 brackets",
    'root ::= "\0"': "zero character",
    'root ::= "\ud800"': "not Unicode",
    'root ::= "' + "a" * (1 << 20) + '"': "longer than 1 MiB",
    'root ::= "' + "a" * 200_000 + '"': "too large",
    'root ::= root "a"': 'the rule "root" may begin with itself',
    "root ::= a\na ::= b\nb ::= a": 'the rule "a" may begin with itself',
    'root ::= e root | "a"\ne ::= ""': 'the rule "root" may begin with itself',
    'root ::= e root | "a"\ne ::= f f\nf ::= g | "b"\ng ::= | "c"': 'the rule "root" may begin with itself',
    'root ::= ("a"? "b"*) root': 'the rule "root" may begin with itself',
    'root ::= ("a"*)*': 'the rule "root" may begin with itself',
    'root ::= [a] c\nc ::= d\nd ::= ("x"* c)+': "may begin with itself",
}
