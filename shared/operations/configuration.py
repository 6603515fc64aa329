"""The settings in effect, as people may see them."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from shared.settings import PREFIX, Settings
from shared.sources.service import MASK

_USERINFO: Final = re.compile(r"(://[^:/@\s]*):[^@\s]*@")
_PASSWORD: Final = re.compile(r"\b(password=)[^&\s]*")


def describe_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings by the names of their variables; secrets are masked."""
    shown: dict[str, Any] = {}
    for entry in fields(Settings):
        value = getattr(settings, entry.name)
        if entry.name == "secret_keys":
            value = [MASK] * len(value)
        elif entry.name == "admin_key":
            value = MASK if value else ""
        elif entry.name.endswith("_url"):
            value = _PASSWORD.sub(rf"\1{MASK}", _USERINFO.sub(rf"\1:{MASK}@", value))
        elif isinstance(value, tuple):
            value = [str(one) for one in value]
        elif isinstance(value, Path):
            value = str(value)
        shown[PREFIX + entry.name.upper()] = value
    return shown
