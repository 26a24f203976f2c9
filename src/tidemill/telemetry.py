"""Logging: plain lines for people, or JSON lines for machines."""

import json
import logging
import os
import sys


def get_logger(package: str) -> logging.Logger:
    """Return the logger of a package of Tidemill, such as "serving"."""
    return logging.getLogger(f"tidemill.{package}")


class _JsonLineFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "room": record.name,
            "text": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


def configure_logging(level: str | None = None) -> None:
    """Send logs to stderr: `TIDEMILL_LOG` is the level, `TIDEMILL_LOG_FORMAT=json` makes each line an object."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("TIDEMILL_LOG_FORMAT") == "json":
        handler.setFormatter(_JsonLineFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S"))
    root = logging.getLogger("tidemill")
    root.handlers = [handler]
    root.setLevel((level or os.environ.get("TIDEMILL_LOG", "WARNING")).upper())
