"""Every key that the gateway has in Redis. `{pp}`, the partition, is the Cluster hash tag.

| key | type | what | ends |
|---|---|---|---|
| `gw:s:{pp}:<digest>` | string | the session record; see `records` | with the session |
| `gw:a:{pp}` | zset | digests, score = last activity + idle time, ms | with the last session |
| `gw:u:{pp}:<user>` | zset | digests, score = absolute end, ms | with the last session |
| `gw:e:{pp}` | stream | the outbox | never: it is bounded |
| `gw:x:{pp}` | string | events dropped because the outbox was full | never |
| `gw:l:{pp}:<sink>` | string | which relay has the partition now | after `events.takeover` |
| `gw:q:{pp}` | stream | dead letters: events that a sink could never take | never: it is bounded |
| `gw:h:{pp}` | hash | start and head of the partition's chain in Postgres | never |
| `gw:d:{pp}:<user>` | hash | what is known of a user; see `histories` | after `alerts.memory` |
| `gw:o:{pp}:<device>` | zset | users of a device, score = last sign-in, ms | after 30 days |
| `gw:w:{pp}` | list | alerts that wait to be pushed | when they are pushed |
| `gw:b:{pp}:<session>` | set | what was told of a session that others use | with the session |
| `gw:y:{pp}:<alert>` | string | that a user has answered about an alert | with its link |
| `gw:pushing` | string | whose turn it is to push alerts | after 5 s |
| `gw:s:{pp}:!<fence>` | string | stands behind a change; see `replicas` | after 10 s |
| `gw:replicas` | hash | replicas that answer from memory: name, heartbeats | never |
| `gw:partitions` | string | their number and the version of records, of the first start | never |

A session is valid until its record's absolute end **and** its score in the activities. Where the
absolute end comes first, they also hold `<digest>!` with that, for the sweep.
"""

from __future__ import annotations

from ..credentials import digest_of_user
from ..model import SessionKey


class Keys:
    """Builds the keys below one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.partitions = f"{prefix}partitions"
        self.replicas = f"{prefix}replicas"
        self.pushing = f"{prefix}pushing"
        self.tracked = f"{prefix}s:"  # every change below it is told to all replicas
        self._end_of_record = len(f"{self.tracked}{{pp}}:")

    def record(self, key: SessionKey) -> str:
        return f"{self.prefix}s:{{{key.partition}}}:{key.digest}"

    def parse_record(self, name: bytes) -> tuple[str, str]:
        """Return the partition and the end of the name of a tracked key."""
        text = name.decode("ascii", "replace")
        return text[self._end_of_record - 4 : self._end_of_record - 2], text[self._end_of_record :]

    def confirmations(self, replica: str) -> str:
        """Return the channel on which `replica` is told who has passed its changes."""
        return f"{self.prefix}passed:{replica}"

    def fence(self, partition: str, end: str) -> str:
        return f"{self.tracked}{{{partition}}}:{end}"

    def activities(self, partition: str) -> str:
        return f"{self.prefix}a:{{{partition}}}"

    def index(self, partition: str, user: str) -> str:
        return f"{self.prefix}u:{{{partition}}}:{digest_of_user(user)}"

    def outbox(self, partition: str) -> str:
        return f"{self.prefix}e:{{{partition}}}"

    def dropped(self, partition: str) -> str:
        return f"{self.prefix}x:{{{partition}}}"

    def holder(self, partition: str, sink: str) -> str:
        return f"{self.prefix}l:{{{partition}}}:{sink}"

    def dead_letters(self, partition: str) -> str:
        return f"{self.prefix}q:{{{partition}}}"

    def witness(self, partition: str) -> str:
        return f"{self.prefix}h:{{{partition}}}"

    def history(self, partition: str, user: str) -> str:
        return f"{self.prefix}d:{{{partition}}}:{digest_of_user(user)}"

    def accounts(self, partition: str, device_digest: str) -> str:
        return f"{self.prefix}o:{{{partition}}}:{device_digest}"

    def told(self, partition: str) -> str:
        """Return how the key begins that a script ends with a session's first digest."""
        return f"{self.prefix}b:{{{partition}}}:"

    def answer(self, alert_id: str) -> str:
        return f"{self.prefix}y:{{{alert_id[:2]}}}:{alert_id}"

    def alerts(self, partition: str) -> str:
        return f"{self.prefix}w:{{{partition}}}"
