"""Manifests, block index, replica index, range tracker and schemas over any transactional `KeyValueStore`.

Row by row encodings are in `rows.py` and docs/formats/metadata.md; the protocol they serve is docs/block-life.md.
"""
