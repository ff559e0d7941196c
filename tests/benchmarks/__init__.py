"""Benchmarks: each script states a claim, measures it beside its peer, prints a table, writes JSON.

``python -m tests.benchmarks.spine`` runs one.
"""
