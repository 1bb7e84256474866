"""Every number that a person may set has one pair of bounds, wherever it is set."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tui.choices import LONGEST_DRAFT, SAMPLING
from tui.commands.options import parser
from tui.config import ConfigError, Generation, read_value
from tui.engine.speculation import chances
from tui.protocol import Sampling


def test_every_number_of_the_sampling_chain_has_its_bounds() -> None:
    numbers = {name for name in Sampling.__annotations__ if name != "logit_bias"}
    assert set(SAMPLING) == numbers
    assert numbers <= {entry.name for entry in fields(Generation)}


def test_the_heart_drafts_as_far_as_a_person_may_ask() -> None:
    assert chances.LONGEST == LONGEST_DRAFT


@pytest.mark.parametrize("name", SAMPLING)
def test_a_bound_is_the_same_in_the_settings_and_on_the_command_line(name: str) -> None:
    option = f"--{name.replace('_', '-')}"
    for bound in SAMPLING[name][:2]:
        read_value(Generation, name, str(bound))
        assert vars(parser().parse_args(["ask", option, str(bound), "hi"]))[name] == bound
    beyond = str(SAMPLING[name].high + 1)
    with pytest.raises(ConfigError):
        read_value(Generation, name, beyond)
    with pytest.raises(SystemExit):
        parser().parse_args(["ask", option, beyond, "hi"])
