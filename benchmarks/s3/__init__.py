"""Blocks in S3."""
