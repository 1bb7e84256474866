"""The tree of turns: branches side by side, the path through them, removals that can be undone."""

from __future__ import annotations

import pytest

from tui.chat.turn_tree import TurnTree
from tui.store import Turn


def grown(*turns: str) -> TurnTree:
    """A tree of turns, each written "KEY<PARENT". Keys with q are prompts; the path ends at the last turn."""
    tree = TurnTree()
    for each in turns:
        key, _, parent = each.partition("<")
        tree.add(Turn(key, parent, "user" if "q" in key else "assistant", f"text of {key}"))
        tree.end = key
    return tree


def turn(tree: TurnTree, key: str) -> Turn:
    found = tree.turn(key)
    assert found is not None
    return found


@pytest.fixture
def tree() -> TurnTree:
    """Two answers to the first prompt. Both chats go on; the second one is shown."""
    return grown("q1", "a1<q1", "q2<a1", "a2<q2", "b1<q1", "q3<b1", "a3<q3")


def test_the_path_leads_from_the_beginning_to_its_end(tree: TurnTree) -> None:
    assert [each.key for each in tree.path] == ["q1", "b1", "q3", "a3"]
    tree.end = "a2"
    assert [each.key for each in tree.path] == list(tree.keys) == ["q1", "a1", "q2", "a2"]
    tree.end = ""
    assert (tree.path, tree.last) == ([], None)


def test_branches_are_counted_and_found_beside_each_other(tree: TurnTree) -> None:
    one, two = turn(tree, "a1"), turn(tree, "b1")
    assert (tree.branch(one), tree.branch(two)) == ((1, 2), (2, 2))
    assert (tree.sibling(one, 1), tree.sibling(two, -1)) == (two, one)
    assert tree.sibling(two, 1) is tree.sibling(one, -1) is None
    assert tree.branch(turn(tree, "q3")) == (1, 1)


def test_a_prompt_without_an_answer_is_no_branch_unless_it_is_shown(tree: TurnTree) -> None:
    tree.add(Turn("q4", "a1", "user", "never answered"))
    assert tree.branch(turn(tree, "q2")) == (1, 1)
    tree.end = "q4"
    assert tree.branch(turn(tree, "q2")) == (1, 2)


def test_a_branch_leads_to_the_last_answer_of_its_latest_path(tree: TurnTree) -> None:
    assert (tree.leaf(turn(tree, "a1")), tree.leaf(turn(tree, "b1"))) == ("a2", "a3")
    tree.add(Turn("q5", "a1", "user", "another"))
    tree.add(Turn("a5", "q5", "assistant", "another answer"))
    assert tree.leaf(turn(tree, "a1")) == "a5"
    assert tree.leaf(turn(tree, "a5")) == "a5"


def test_a_removal_takes_all_that_follows_and_shows_the_branch_beside_it(tree: TurnTree) -> None:
    assert set(tree.remove(turn(tree, "b1"))) == {"b1", "q3", "a3"}
    assert (tree.end, tree.turn("q3")) == ("a2", None)
    assert set(tree.remove(turn(tree, "a1"))) == {"a1", "q2", "a2"}
    assert tree.end == "q1"  # nothing stands beside it any more


def test_removals_are_undone_in_the_reverse_order(tree: TurnTree) -> None:
    tree.remove(turn(tree, "a3"))
    tree.remove(turn(tree, "b1"))
    assert set(tree.restore()) == {"b1", "q3"}
    assert set(tree.restore()) == {"a3"}
    assert [each.key for each in tree.path] == ["q1", "b1", "q3", "a3"]
    assert tree.restore() == ()


def test_a_step_back_leaves_out_prompts_and_empty_answers() -> None:
    tree = grown("q1", "a1<q1", "q2<a1")
    tree.add(Turn("a2", "q2", "assistant", ""))
    tree.end = "a2"
    prompt = tree.step_back()
    assert (prompt and prompt.key, tree.end) == ("q2", "a1")
    assert (tree.step_back(), tree.end) == (None, "a1")
