"""Session Gateway: decides for a proxy whether a request may pass."""

__version__ = "0.1.0"
