"""Signatures of texts, by which a search leaves out almost all messages without reading them.

A signature is a set of slots: each three characters of the texts choose two of them. A message whose texts contain the
words has all slots of the words; one that has them may still contain none, so its texts are compared afterwards.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final
from zlib import crc32

SLOTS: Final = 512
MAX_SLOTS_OF_SEARCH: Final = 8
"""More of them hardly leave out any further message, and each is read."""
_SLOTS_OF_MARK: Final = 4

_MAX_KNOWN: Final = 50_000


class _Grams(dict[str, tuple[int, int]]):
    """The slots of three characters, computed once: strangers choose the texts, but most have the same ones."""

    def __missing__(self, gram: str) -> tuple[int, int]:
        if len(self) >= _MAX_KNOWN:
            self.clear()
        number = crc32(gram.encode(errors="replace"))
        slots = self[gram] = number % SLOTS, (number >> 16) % SLOTS
        return slots


_slots_of_gram: Final = _Grams().__getitem__


def of_texts(texts: Iterable[str | None]) -> set[int]:
    """Return the slots of texts. Those of up to two characters have none."""
    slots = set[int]()
    for text in texts:
        if text:
            lowered = text.lower()
            grams = [lowered[start : start + 3] for start in range(len(lowered) - 2)]
            slots.update(*map(_slots_of_gram, grams))
    return slots


def of_mark(name: str, value: str) -> set[int]:
    """Return the slots of a whole value, such as of a tag."""
    return {crc32(f"{number}:{name}:{value.lower()}".encode()) % SLOTS for number in range(_SLOTS_OF_MARK)}


def choose(slots: Iterable[int], sample: Mapping[int, bytes] | None = None) -> list[int]:
    """Return the slots that a search compares: the rarest ones in a sample, which has a string of bits for each slot.

    Many messages have a common domain or word, and its slots with it: they leave out little.
    """
    bits = {slot: int.from_bytes(string).bit_count() for slot, string in (sample or {}).items()}
    return sorted(slots, key=lambda slot: (bits.get(slot, 0), slot))[:MAX_SLOTS_OF_SEARCH]


def encode(signatures: Sequence[set[int]]) -> bytes:
    """Return one string of bits for each slot, one after the other; a bit for each signature, rounded up to bytes."""
    width = width_of(len(signatures))
    bits = bytearray(SLOTS * width)
    for position, slots in enumerate(signatures):
        offset, bit = position >> 3, 1 << (position & 7)
        for slot in slots:
            bits[slot * width + offset] |= bit
    return bytes(bits)


def width_of(count: int) -> int:
    """Return the number of bytes of a slot for this number of signatures."""
    return (count + 7) // 8


def clear(bits: bytes, count: int, positions: Iterable[int]) -> bytes:
    """Return these strings of bits, of `count` signatures, without the signatures at these positions."""
    width, cleared = width_of(count), bytearray(bits)
    for position in positions:
        offset, mask = position >> 3, ~(1 << (position & 7))
        for slot in range(SLOTS):
            cleared[slot * width + offset] &= mask
    return bytes(cleared)


def positions_in_all(strings: Iterable[bytes]) -> Iterator[int]:
    """Return the positions of the bits that are set in all of these strings of bits."""
    common = -1
    for string in strings:
        common &= int.from_bytes(string, "little")
    while common > 0:
        lowest = common & -common
        yield lowest.bit_length() - 1
        common ^= lowest
