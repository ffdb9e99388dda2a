"""HTTP in front of a store: docs/server.md."""
