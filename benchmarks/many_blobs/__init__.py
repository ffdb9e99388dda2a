"""Does a store of a million blobs answer as fast as one of ten thousand? README.md has the question."""
