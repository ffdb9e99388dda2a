"""PostgreSQL 15 to 18: every metadata port, the object stores and a key-value store, each in SQL of its own.

`database.py` has the connections, `_scripts.py` says how transactions are written, `migrations/` has the tables. The
rows are in docs/formats/postgres.md, set-up and tuning in docs/guides/postgres.md.
"""
