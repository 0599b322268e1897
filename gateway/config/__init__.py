"""The configuration. Only `app` and the commands import this; every part gets plain values."""

from .loading import Loaded, load
from .settings import ProfileName, Settings

__all__ = ["Loaded", "ProfileName", "Settings", "load"]
