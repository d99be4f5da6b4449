"""Legalisation: exact passes, each of which writes one thing that a back end cannot take in terms that it can."""
