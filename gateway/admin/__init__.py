"""The admin API: the application's back end and operators create, list and end sessions here."""

from .api import AdminOptions, build

__all__ = ["AdminOptions", "build"]
