"""Turns a peer's configuration into ours. Never into one that lets more pass.

What cannot be said exactly becomes a rule that denies, or is left out where nothing behind it lets
more pass; and every such place is a note.
"""

from .authelia import translate as from_authelia
from .oauth2_proxy import translate as from_oauth2_proxy
from .translation import Translation

__all__ = ["Translation", "from_authelia", "from_oauth2_proxy"]
