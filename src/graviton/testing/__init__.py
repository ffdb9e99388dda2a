"""Shipped for those who build on the ports: conformance suites, scripted faults, a clock that tests move."""
