from __future__ import annotations

from importlib.metadata import version

from graviton._version import __version__


def test_installed_distribution_has_the_version_of_the_source() -> None:
    assert version("graviton") == __version__
