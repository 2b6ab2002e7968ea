"""Devices, as data. A file is a target."""
