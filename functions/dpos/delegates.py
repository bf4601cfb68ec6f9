"""The delegates and the way to them, out of the secret `love/delegates`."""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec


class Delegate(msgspec.Struct, frozen=True):
    """One delegate; `stake` is what its vote is worth, `level` is `city`, `continent` or `global`."""

    delegate_id: str
    level: str
    address: str
    algorithm: str
    public_key: bytes
    stake: int

    @property
    def is_full(self) -> bool:
        """Whether it keeps whole batches; it is asked for its vote only when it is needed."""
        return self.level != "city"


class Delegates(msgspec.Struct, frozen=True):
    """All delegates of an epoch, and the TLS files (PEM) to reach them with."""

    epoch: int
    delegates: tuple[Delegate, ...]
    ca_pem: str
    client_cert_pem: str
    client_key_pem: str

    @classmethod
    def of_secret(cls, secret: Mapping[str, Any]) -> "Delegates":
        """Read the secret."""
        return cls(
            epoch=secret["epoch"],
            delegates=tuple(
                Delegate(
                    one["delegate_id"],
                    one["level"],
                    one["address"],
                    one["algorithm"],
                    b64decode(one["public_key"]),
                    one["stake"],
                )
                for one in secret["delegates"]
            ),
            ca_pem=secret["ca_pem"],
            client_cert_pem=secret["client_cert_pem"],
            client_key_pem=secret["client_key_pem"],
        )

    @property
    def total_stake(self) -> int:
        """All stake, whether it votes or not."""
        return sum(one.stake for one in self.delegates)

    def is_quorum(self, stake: int) -> bool:
        """Whether this stake is two thirds of all."""
        return stake > 0 and 3 * stake >= 2 * self.total_stake
