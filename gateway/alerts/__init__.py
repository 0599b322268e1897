"""What looks wrong about a sign-in: pure rules over it and what is known of the user.

A rule is one file with one function, and one line in `rules.RULES`.
"""

from .assessment import Action, Alert, Assessment, Watch
from .finding import Finding, Limits
from .history import History, Seen, SignIn, Spot
from .rules import RULES

__all__ = [
    "RULES",
    "Action",
    "Alert",
    "Assessment",
    "Finding",
    "History",
    "Limits",
    "Seen",
    "SignIn",
    "Spot",
    "Watch",
]
