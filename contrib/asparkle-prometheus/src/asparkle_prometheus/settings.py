"""What is configured: where metrics are served or pushed to."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from asparkle.plugins import ConfigKey

PREFIX = "asparkle.prometheus."


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _gateway(text: str) -> str:
    """``text``, if something can be pushed there, or if it is empty."""
    text = text.strip()
    url = urlsplit(text if "://" in text else f"http://{text}")
    if text and (url.scheme not in ("http", "https") or not url.hostname or re.search(r"\s", text)):
        raise ValueError(text)
    _ = url.port  # raises ValueError for one that is none
    return text


PORT = ConfigKey[int | None](
    f"{PREFIX}port",
    "port",
    "a port, or 0 for any that is free",
    _port,
    None,
    "The endpoint's port; not set, or 0: any that is free.",
)
ADDRESS = ConfigKey(
    f"{PREFIX}address", "text", "an address", str, "127.0.0.1", "The address that it listens on; 0.0.0.0 for all."
)
PUSHGATEWAY = ConfigKey(
    f"{PREFIX}pushgateway",
    "text",
    "host:port or a URL",
    _gateway,
    "",
    "A push gateway, host:port or a URL; where it is set, there is an endpoint only with a port.",
)
KEYS: list[ConfigKey[Any]] = [PORT, ADDRESS, PUSHGATEWAY]
