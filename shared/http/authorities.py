"""Whose certificates are trusted when we call out: those that this machine's OpenSSL trusts."""

import ssl
from functools import cache
from pathlib import Path

import pycurl


@cache
def options() -> dict[int, str]:
    """What libcurl has to be told: its own idea of where they are may be that of another distribution."""
    file = ssl.get_default_verify_paths().cafile
    return {pycurl.CAINFO: file} if file and Path(file).is_file() else {}
