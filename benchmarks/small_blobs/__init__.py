"""Many blobs of 4 KiB, one after the other and together. README.md has the question."""
