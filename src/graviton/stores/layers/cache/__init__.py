"""Blocks of a store that is far away, kept on a disk nearby: docs/caching.md."""
