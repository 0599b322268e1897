"""Every key that the gateway has in Redis. `{pp}`, the partition, is the Cluster hash tag.

| key | type | what | ends |
|---|---|---|---|
| `gw:s:{pp}:<digest>` | string | the session record, JSON | with the session |
| `gw:a:{pp}:<digest>` | string | last activity, ms | after the idle timeout |
| `gw:u:{pp}:<user>` | zset | digests, score = absolute end, ms | with the last session |
| `gw:t:{pp}` | zset | `<digest>:<user>`, score = when it may be over, ms | with the last session |
| `gw:e:{pp}` | stream | the outbox | never: it is bounded |
| `gw:x:{pp}` | string | events dropped because the outbox was full | never |
| `gw:partitions` | string | the number of partitions, fixed at the first start | never |

A session is valid while its record **and** its activity exist.
"""

from __future__ import annotations

from ..credentials import digest_of_user
from ..model import SessionKey


class Keys:
    """Builds the keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.partitions = f"{prefix}partitions"

    def record(self, key: SessionKey) -> str:
        return f"{self.prefix}s:{{{key.partition}}}:{key.digest}"

    def activity(self, key: SessionKey) -> str:
        return f"{self.prefix}a:{{{key.partition}}}:{key.digest}"

    def index(self, partition: str, user: str) -> str:
        return f"{self.prefix}u:{{{partition}}}:{digest_of_user(user)}"

    def outbox(self, partition: str) -> str:
        return f"{self.prefix}e:{{{partition}}}"

    def due(self, partition: str) -> str:
        return f"{self.prefix}t:{{{partition}}}"

    def dropped(self, partition: str) -> str:
        return f"{self.prefix}x:{{{partition}}}"
