"""Thin wrappers around a store, with the same port; each has one job."""
