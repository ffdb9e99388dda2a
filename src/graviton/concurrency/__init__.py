"""Between event loops and threads: what backends and stores share. Imports nothing of ours but errors."""
