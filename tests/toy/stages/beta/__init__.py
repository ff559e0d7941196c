"""Toy stage: averages."""
