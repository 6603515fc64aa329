import pytest

from shared.http.urls import is_http_url, is_printable


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:3000/webhooks", "https://hooks.example.com", "HTTPS://example.com/{x}?a=b", "http://[::1]/"],
)
def test_http_urls(url: str) -> None:
    assert is_http_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "hooks.example.com",
        "ftp://example.com/",
        "https://",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://[::1/",
        "https://example.com/a b",
        "https://example.com/\n",
        "https://exämple.com/",
    ],
)
def test_others(url: str) -> None:
    assert not is_http_url(url)


@pytest.mark.parametrize("sign", [chr(code) for code in (*range(0x21), 0x7F, 0x80, 0xE4, 0x2028)])
def test_a_url_is_printable_ascii_without_spaces(sign: str) -> None:
    assert is_printable("https://example.com/!~")
    assert not is_printable(f"https://example.com/{sign}x")
    assert not is_printable(f"https://example.com/{sign}")
