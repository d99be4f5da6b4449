"""The command line. It parses, calls the API and prints; the work itself is in `penstock.api`.

Modules here import nothing heavy at the top: torch takes seconds to load, and ``penstock --help`` needs none of it.
"""
