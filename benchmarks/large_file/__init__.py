"""Put and get of one large file, beside other tools. README.md has the question."""
