"""What every port on PostgreSQL can do beyond the minimum."""

from graviton.ports.capabilities import Capabilities

__all__ = ["CAPABILITIES"]

CAPABILITIES = Capabilities(persistent=True, durable=True, multi_process=True, conditional_put=True)
