"""How long short commands take. README.md has the question."""
