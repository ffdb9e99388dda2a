"""The laws of the ports as runnable contracts: one class per port, one tiny subclass per implementation.

Under pytest: a subclass named `Test…` in a folder whose `conftest.py` imports `graviton.testing.pytest_plugin`. On a
live store, without pytest: `graviton.testing.conformance.runner`.
"""
