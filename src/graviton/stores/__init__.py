"""Stores built from ports: no driver, no path, no SQL in here."""
