"""Benchmarks: each script states a claim, measures it beside its peer, prints a table, writes JSON.

``python -m tests.benchmarks`` runs all, or those named, and makes docs/benchmarks.md;
``python -m tests.benchmarks.spine`` runs one script alone.
"""
