"""Metadata on RocksDB: beside rocksdict alone, and beside SQLite and PostgreSQL."""
