"""What metadata on PostgreSQL costs, also with ten million blocks. README.md has the question."""
