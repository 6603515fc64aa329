"""Signatures: no message is left out whose texts contain the words."""

from hypothesis import given
from hypothesis import strategies as st

from shared.messages import signatures

TEXTS = st.lists(st.text(max_size=30), min_size=1, max_size=4)


@given(st.lists(TEXTS, min_size=1, max_size=20), st.data())
def test_each_message_that_contains_the_word_is_found(messages: list[list[str]], data: st.DataObject) -> None:
    number = data.draw(st.integers(0, len(messages) - 1))
    text = data.draw(st.sampled_from(messages[number])).lower()
    start = data.draw(st.integers(0, len(text)))
    word = text[start : data.draw(st.integers(start, len(text)))]
    bits = signatures.encode([signatures.of_texts(texts) for texts in messages])
    width = signatures.width_of(len(messages))
    strings = [bits[slot * width : (slot + 1) * width] for slot in signatures.choose(signatures.of_texts([word]))]
    assert not strings or number in set(signatures.positions_in_all(strings))


@given(st.lists(TEXTS, min_size=1, max_size=20), st.data())
def test_a_signature_that_is_cleared_has_no_bits_and_others_keep_theirs(
    messages: list[list[str]], data: st.DataObject
) -> None:
    signed = [signatures.of_texts(texts) for texts in messages]
    cleared = data.draw(st.sets(st.integers(0, len(messages) - 1)))
    left = [set() if number in cleared else slots for number, slots in enumerate(signed)]
    assert signatures.clear(signatures.encode(signed), len(signed), cleared) == signatures.encode(left)


def test_most_others_are_left_out() -> None:
    signed = [signatures.of_texts([f"customer.{number * 7919}@domain{number % 9}.example"]) for number in range(2000)]
    wanted = signatures.of_texts(["@post.example"])
    assert sum(wanted <= slots for slots in signed) < 20


def test_an_address_at_a_domain_that_all_have_leaves_out_nearly_all_others() -> None:
    signed = [signatures.of_texts([f"customer.{number * 7919}@domain.example"]) for number in range(2000)]
    bits, width = signatures.encode(signed), signatures.width_of(len(signed))
    strings = {slot: bits[slot * width : (slot + 1) * width] for slot in range(signatures.SLOTS)}
    chosen = signatures.choose(signatures.of_texts([f"customer.{1234 * 7919}@domain.example"]), strings)
    found = list(signatures.positions_in_all(strings[slot] for slot in chosen))
    assert 1234 in found
    assert len(found) < 20


def test_a_word_of_two_characters_leaves_out_nothing() -> None:
    assert signatures.of_texts(["ab"]) == set()


def test_case_makes_no_difference() -> None:
    assert signatures.of_texts(["Straße"]) == signatures.of_texts(["STRAßE"])
    assert signatures.of_mark("tag", "Invoice") == signatures.of_mark("tag", "invoice")
