"""Lepton's block beside a user's text, which stays byte for byte."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lepton_mlflow.description import has_block, with_block, without_block

_TEXT = st.text(alphabet=st.sampled_from("ab \n\t|<!->é"), max_size=40)


@given(before=_TEXT, after=_TEXT, first=_TEXT.map(lambda text: text.replace("\n", " ")), body=_TEXT)
def test_a_users_text_is_kept_byte_for_byte(before, after, first, body):
    text = with_block(after, f"V{first}", [body])
    assert without_block(text) == after
    # The user writes before the block, then it is refreshed: it stays where it stands.
    moved = before + "\n" + text
    again = with_block(moved, "Another verdict", ["new body"])
    assert without_block(again) == before + "\n" + after
    assert again.startswith(before + "\nAnother verdict")


def test_the_verdict_comes_first_since_lists_show_only_that():
    text = with_block("Mine.", "log loss 0.431", ["| a |"])
    assert text.startswith("log loss 0.431")
    assert text.endswith("\n\nMine.")


def test_a_verdict_that_a_user_edited_is_theirs():
    text = with_block("", "log loss 0.431", ["| a |"])
    edited = text.replace("log loss 0.431", "log loss is fine!")
    assert without_block(edited) == "log loss is fine!"


def test_an_end_marker_that_a_user_removed_takes_nothing_with_it():
    text = with_block("Mine.", "verdict", ["body"]).replace("<!-- lepton:end -->", "")
    assert "Mine." in without_block(text)
    assert not has_block(without_block(text))


def test_the_limit_shortens_the_block_never_the_users_text():
    mine = "m" * 4950
    assert with_block(mine, "verdict", ["b" * 500]).endswith(mine)
    assert with_block("m" * 5000, "verdict", ["body"]) == "m" * 5000
    shortened = with_block("m" * 4000, "verdict", ["b" * 2000, "short"])
    assert "short" in shortened
    assert len(shortened) <= 5000
