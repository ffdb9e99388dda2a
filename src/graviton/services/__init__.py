"""Long jobs, over ports only."""
