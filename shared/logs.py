"""Logging: one JSON object per line, or short coloured lines on a terminal."""

import logging
import sys

import structlog

from shared.foreign_text import show

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(level: str) -> None:
    """Set up the logs of this process. Never pass bodies, signatures or credentials to a logger.

    Warnings and errors of libraries have the same format: Celery reports failed tasks only there.
    """
    is_terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
    )
    described: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # JSON escapes what is not printable. The traceback keeps its lines.
    formatted: list[structlog.typing.Processor] = [structlog.processors.format_exc_info]
    formatted += [_show_foreign_text, renderer] if is_terminal else [renderer]
    structlog.configure(
        processors=[*described, *formatted],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=described,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *formatted,
            ],
        )
    )
    handler.setLevel(logging.WARNING)
    logging.getLogger().addHandler(handler)


def _show_foreign_text(
    logger: object,  # noqa: ARG001
    name: str,  # noqa: ARG001
    entry: structlog.typing.EventDict,
) -> structlog.typing.EventDict:
    return {
        key: show(value, lines=key == "exception") if isinstance(value, str) else value for key, value in entry.items()
    }
