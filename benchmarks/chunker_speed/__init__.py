"""The chunker of the default preset beside pyfastcdc. README.md has the question; benchmarks/chunkers has much more."""
