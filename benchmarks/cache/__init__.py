"""The block cache: how fast a hit is, and which policy keeps what is read again."""
