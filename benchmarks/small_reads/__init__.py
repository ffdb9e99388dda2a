"""What reading costs: small blobs, and large ones, through a server."""
