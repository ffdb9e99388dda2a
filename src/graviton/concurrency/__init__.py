"""Between event loops and threads: what backends, stores and services share. Imports nothing of ours but errors."""
