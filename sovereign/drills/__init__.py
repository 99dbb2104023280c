"""Drills: things that go wrong on purpose, on a live site, and what was seen then.

A drill works on the site as it runs, hurts nobody, notes what it must undo before it does
anything (`note.py`), and leaves a record (`record.py`). Nothing here prints.
"""
