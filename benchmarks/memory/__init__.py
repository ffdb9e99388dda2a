"""Peak memory of put and get of a very large file. README.md has the question."""
