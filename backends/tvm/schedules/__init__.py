"""Schedules: one file per rule, by the kind of device; `rules.py` has their order."""
