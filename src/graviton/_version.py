"""The version, also read by the build; imports nothing, so that asking for it is cheap."""

__all__ = ["__version__"]

__version__ = "0.1.0"
