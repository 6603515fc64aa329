"""Targets of suppression: one address or a domain; and what is neither."""

import pytest

from shared.addresses import AddressError, Target, parse_domain, parse_target


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("ann@example.net", Target(address="ann@example.net")),
        (" Ann <ANN@Example.net> ", Target(address="ann@example.net")),
        ("ann@example.net (Ann)", Target(address="ann@example.net")),
        ("ann+tag@example.net", Target(address="ann+tag@example.net")),
        ("o'brien@example.net", Target(address="o'brien@example.net")),
        ("ann@bücher.example", Target(address="ann@xn--bcher-kva.example")),
        ("ann@smtp", Target(address="ann@smtp")),
        ("\ufeffann@example.net\u200b", Target(address="ann@example.net")),
        ("mailto:ann@example.net", Target(address="ann@example.net")),
        ('"ann"@example.net', Target(address="ann@example.net")),
        ("ann@نامه\N{ZERO WIDTH NON-JOINER}ای.com", Target(address="ann@xn--mgba3gch31f060k.com")),
        ("ann@example.net.", Target(address="ann@example.net")),
        ("@Example.net", Target(domain="example.net")),
        ("@bücher.example", Target(domain="xn--bcher-kva.example")),
    ],
)
def test_a_target_is_read_in_any_form(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    "text",
    [
        "", "ann", "example.net", "ann@", "@", "a b@example.net", "a@b@example.net", "ann@exa mple.net",
        "ann@example.net, bob@example.net", "<ann@example.net>, <bob@example.net>",
        "ann@-example.net", "ann@[192.0.2]", "an\u200bn@example.net", "ann@exam\u00adple.net", "än\u200dn@example.net",
        "@[192.0.2.1]", "a\0b@example.net", "x" * 310 + "@example.net", "ann@" + "x" * 300 + ".net",
        "\ud800@example.net ann",
    ],
)  # fmt: skip
def test_what_is_neither_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(AddressError) as refused:
        parse_target(text)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("Ann <ANN@Example.net>", "ann@example.net"),
        (' "John Doe"@X.net', '"john doe"@x.net'),
        (r'"a\"b\\c@d"@x.net', r'"a\"b\\c@d"@x.net'),
        ("joe@[192.0.2.1]", "joe@[192.0.2.1]"),
        ('"joe"@[IPv6:2001:db8::1]', "joe@[ipv6:2001:db8::1]"),
    ],
)
def test_a_list_may_contain_addresses_with_unusual_characters(text: str, address: str) -> None:
    assert parse_target(text) == Target(address=address)


@pytest.mark.parametrize(
    "text",
    [
        "", "ann", "a b@x.net", '"a"b@x.net', '"a@x.net', "joe@[host]", "joe@[192.0.2.1", '"a"@x y', '"a\nb"@x.net',
        '"a"@x.net, b@x.net', "a@[192.0.2.1],b@[192.0.2.2]", '""@x.net',
    ],
)  # fmt: skip
def test_what_is_no_address_in_a_list_either_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_target(text)


@pytest.mark.parametrize("text", ["example.net", "@example.net", " Example.NET "])
def test_a_domain_is_read_with_its_sign_or_without(text: str) -> None:
    assert parse_domain(text) == Target(domain="example.net")


@pytest.mark.parametrize("text", ["ann@example.net", "", "@", "x y", "-"])
def test_what_is_no_domain_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_domain(text)
