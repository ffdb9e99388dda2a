"""What a store asks before it takes bytes, and how fast it takes and gives them. docs/decisions/0050-quota.md."""
