"""The composition root: the only room that reads the environment and chooses backends.

`settings.py` turns environment variables into frozen settings, `wiring.py` turns settings into layers in their order,
`store.py` is what users hold.
"""
