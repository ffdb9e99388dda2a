"""Measurements of speed and memory beside other tools: `python -m benchmarks`. README.md says what and how."""
