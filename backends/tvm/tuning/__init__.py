"""Tuning: searching for a schedule's few numbers by measuring, and a file that remembers what was found."""
