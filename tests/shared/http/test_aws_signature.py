"""The signatures are those of AWS' own test suite and documentation."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from shared.http import aws_signature
from shared.http.aws_signature import AccessKey

# The suite's key and time, which Amazon published for this purpose.
KEY = AccessKey(access_key_id="AKIDEXAMPLE", secret_access_key="wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx"
    "7mSEI/qkPpKPi/kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6"
    "d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
AT = datetime(2015, 8, 30, 12, 36, tzinfo=UTC)
URL = "https://example.amazonaws.com"


def sign(method="GET", url=f"{URL}/", headers=None, body=b"", key=KEY, service="service", now=AT):
    return aws_signature.sign(method, url, headers or {}, body, key, region="us-east-1", service=service, now=now)


@pytest.mark.parametrize(
    ("name", "method", "path", "headers", "body", "signature"),
    [
        ("get-vanilla", "GET", "/", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        (
            *("get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", {}, b""),
            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
        ),
        (
            *("get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", {}, b""),
            "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
        ),
        ("get-utf8", "GET", "/ሴ", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
        (
            *("get-space", "GET", "/example space/", {}, b""),
            "652487583200325589f1fba4c7e578f72c47cb61beeca81406b39ddec1366741",
        ),
        (
            *("get-header-value-trim", "GET", "/", {"My-Header1": " value1", "My-Header2": ' "a   b   c"'}, b""),
            "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
        ),
        ("post-vanilla", "POST", "/", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        (
            *("post-header-value-case", "POST", "/", {"My-Header1": "VALUE1"}, b""),
            "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
        ),
        (
            *("post-x-www-form-urlencoded", "POST", "/", {"Content-Type": "application/x-www-form-urlencoded"}),
            *(b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
        ),
    ],
)
def test_the_signatures_of_the_test_suite_are_met(name, method, path, headers, body, signature) -> None:
    signed = sign(method, URL + path, headers, body)
    assert signed["X-Amz-Date"] == "20150830T123600Z"
    assert signed["Authorization"].startswith(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
    )
    assert signed["Authorization"].endswith(f", Signature={signature}"), name


def test_a_session_token_is_signed_and_sent() -> None:
    temporary = AccessKey(access_key_id=KEY.access_key_id, secret_access_key=KEY.secret_access_key, session_token=TOKEN)
    signed = sign("POST", key=temporary)
    assert signed["X-Amz-Security-Token"] == TOKEN
    assert signed["Authorization"].endswith(
        "SignedHeaders=host;x-amz-date;x-amz-security-token, "
        "Signature=85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"
    )


def test_the_example_of_the_documentation_is_met() -> None:
    """The request of IAM in the guide that explains the signature."""
    signed = sign(
        url="https://iam.amazonaws.com/?Action=ListUsers&Version=2010-05-08",
        headers={"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"},
        service="iam",
    )
    assert signed["Authorization"].endswith(
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"
    )


def test_a_path_that_is_encoded_is_encoded_again() -> None:
    """As botocore signs the path of SES' API that ends with an address."""
    signed = sign("PUT", f"{URL}/v2/email/suppression/addresses/a%2Bb%40example.com?x=a%20b&y=", body=b"{}")
    assert signed["Authorization"].endswith(
        "Signature=bfda0eb6f90a3e835155df646e2f72fba9c0f062da1fe5a9d0aa30844c35d240"
    )


def test_the_signed_host_is_the_one_that_is_sent() -> None:
    assert sign(url="https://EXAMPLE.amazonaws.com:443") == sign()
    assert sign(url="http://example.amazonaws.com:80/") == sign()
    assert sign(url="https://example.amazonaws.com:444/") != sign()


def test_the_time_may_have_any_zone() -> None:
    assert sign(now=AT.astimezone(timezone(timedelta(hours=5)))) == sign()
