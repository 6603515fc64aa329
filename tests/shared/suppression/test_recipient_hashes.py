"""Hashes of recipients: equal for equal recipients, and secret without the pepper."""

import threading

import pytest
from sqlalchemy import Engine

from shared.encryption import SecretsError, Vault, new_key
from shared.suppression import recipient_hashes
from shared.suppression.recipient_hashes import RecipientHasher

KEYS = RecipientHasher(b"a pepper for tests, of 32 bytes.")


@pytest.mark.parametrize(
    "written", ["ann@example.net", "ANN@Example.NET", " Ann <ann@example.net>", "<ann@example.net>"]
)
def test_an_address_has_one_key_however_it_is_written(written: str) -> None:
    assert KEYS.hash_address(written) == KEYS.hash_address("ann@example.net")


@pytest.mark.parametrize("other", ["ann+news@example.net", "a.nn@example.net", "ann@example.org", "@example.net", ""])
def test_another_address_has_another_key(other: str) -> None:
    assert KEYS.hash_address(other) != KEYS.hash_address("ann@example.net")


def test_a_domain_has_one_key_however_it_is_written() -> None:
    assert KEYS.hash_domain("MÜLLER.example") == KEYS.hash_domain("xn--mller-kva.example")
    assert KEYS.hash_domain("sub.example.net") != KEYS.hash_domain("example.net")
    assert KEYS.hash_domain("example.net") != KEYS.hash_address("example.net")


def test_a_key_is_32_hex_digits_even_of_what_is_no_text() -> None:
    assert len(bytes.fromhex(KEYS.hash_address("half of a pair \ud800@example.net"))) == 16


def test_another_pepper_gives_other_keys() -> None:
    assert RecipientHasher(b"another").hash_address("ann@example.net") != KEYS.hash_address("ann@example.net")


def test_the_pepper_is_made_once_and_kept_sealed(database: Engine) -> None:
    vault = Vault([new_key()])
    with database.begin() as connection:
        first = recipient_hashes.load(connection, vault)
    with database.begin() as connection:
        second = recipient_hashes.load(connection, vault)
        stored = bytes(connection.exec_driver_sql("SELECT sealed FROM peppers").scalar_one())
    assert first.hash_address("ann@example.net") == second.hash_address("ann@example.net")
    assert all(value.encode() not in stored for value in vault.open(stored).values())
    with database.begin() as connection, pytest.raises(SecretsError):
        recipient_hashes.load(connection, Vault([new_key()]))


def test_processes_that_start_at_once_agree_on_one_pepper(database: Engine) -> None:
    vault = Vault([new_key()])
    found: list[str] = []

    def start() -> None:
        with database.begin() as connection:
            found.append(recipient_hashes.load(connection, vault).hash_address("ann@example.net"))

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6
    assert len(set(found)) == 1


def test_a_pseudonym_has_its_key_and_no_other_address_has_one() -> None:
    key = "0123456789abcdef" * 2
    assert recipient_hashes.key_of(recipient_hashes.pseudonym(key)) == key
    for other in ("ann@erased.invalid", f"{key}@erased.invalid.org", f"x{key}@erased.invalid", key, ""):
        assert recipient_hashes.key_of(other) is None
