"""The reference backend: every port in memory, one file each; complete, boring, obviously right."""
