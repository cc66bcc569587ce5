"""Errors that a person can act on.

Every error that promptad raises on purpose is a :class:`PromptadError`: one line that names the file or value, says
what was found and what was expected, and ends with the way out. The commands print that line and no traceback.
"""

from __future__ import annotations


class PromptadError(Exception):
    """Base of all errors that promptad raises on purpose. ``str(error)`` is one line meant for a person."""


class PhotoError(PromptadError):
    """One photo or mask cannot be read or used. A run over a folder reports it and goes on."""


class DataError(PromptadError):
    """A folder, data set, table or manifest is missing, empty or malformed."""


class WeightsError(PromptadError):
    """A checkpoint or a saved detector is missing, damaged, of another kind, or cannot be fetched."""


class ConfigError(PromptadError):
    """A configuration value, key or combination is not valid."""


class TextError(PromptadError):
    """A text cannot be encoded, for example because it is longer than the context length."""
