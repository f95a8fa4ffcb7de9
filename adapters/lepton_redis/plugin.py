"""What Lepton offers on Redis and Valkey."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import StoreOffer


@hookimpl
def lepton_stores() -> list[StoreOffer]:
    return [
        StoreOffer(
            name="redis",
            summary="Learning state that replicas share, in Redis or Valkey",
            target="lepton_redis.state:RedisStateStore",
            schemes=("redis", "rediss", "valkey", "valkeys"),
            holds="state",
            requires=("redis",),
            install="pip install 'lepton-plugins[redis]'",
        )
    ]
