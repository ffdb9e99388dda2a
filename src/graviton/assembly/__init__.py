"""The composition root: the only room that reads the environment and chooses backends.

`settings.py` turns environment variables into frozen settings, `wiring.py` and `metadata_side.py` turn settings into
layers in their order, `store.py` is what users hold.
"""
