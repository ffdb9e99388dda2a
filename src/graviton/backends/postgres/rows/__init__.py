"""The tables of the metadata seen as the rows of docs/formats/metadata.md.

Backup, restore, `verify --all`, `meta repair-totals` and the store marker are written once, over a key-value store.
This view gives them the metadata on PostgreSQL in the same form, so one backup fits every kind of metadata. Nothing
else uses it: puts and gets have SQL of their own.
"""
