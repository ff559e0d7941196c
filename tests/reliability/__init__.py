"""Break it on purpose, lose nothing: crashes, full disks, races, damaged and hostile input.

``python -m tests.reliability`` runs all of it and writes the table in ``docs/reliability.md``.
"""
