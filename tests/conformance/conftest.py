"""Contracts get their places, skips and known gaps from the plugin that is shipped with them."""

from graviton.testing.pytest_plugin import *  # noqa: F403
