"""One JSON document posted to a URL that nobody may see in a log."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

ATTEMPTS: Final = 3
TIMEOUT_SECONDS: Final = 10.0
_FIRST_WAIT: Final = 1.0
_LOGGERS: Final = ("httpx", "httpcore")


def post(url: SecretStr, document: Mapping[str, object]) -> str | None:
    """Post the document; None when it was taken, else why not, without what is secret in the URL.

    A server that is away, busy or at fault is asked again, three times in all.
    """
    import httpx
    import tenacity

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS),
        wait=tenacity.wait_exponential(multiplier=_FIRST_WAIT, max=10.0),
        retry=tenacity.retry_if_result(lambda answer: answer is not None and answer.may_pass),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )

    def send() -> _Refusal | None:
        try:
            answer = httpx.post(url.get_secret_value(), json=document, timeout=TIMEOUT_SECONDS)
        # Its message may hold the URL; its kind does not.
        except httpx.HTTPError as error:
            return _Refusal(f"cannot be reached ({type(error).__name__})", may_pass=True)
        except (httpx.InvalidURL, ValueError) as error:
            return _Refusal(f"is no usable URL ({type(error).__name__})", may_pass=False)
        if answer.is_success:
            return None
        may_pass = answer.status_code in (408, 429) or answer.is_server_error
        return _Refusal(f"answered {answer.status_code}", may_pass=may_pass)

    with _unlogged():
        refusal = retrying(send)
    return None if refusal is None else f"the webhook on {_host(url)} {refusal.why}"


class _Refusal:
    """Why a document was not taken, and whether that may pass."""

    def __init__(self, why: str, *, may_pass: bool) -> None:
        self.why = why
        self.may_pass = may_pass


@contextmanager
def _unlogged() -> Iterator[None]:
    """The client logs every URL that it asks, whole: not this one."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def _host(url: SecretStr) -> str:
    try:
        return urlsplit(url.get_secret_value()).hostname or "an unknown host"
    except ValueError:
        return "an unknown host"
