"""How well an index answers: exact neighbours, measured recall, and what can be said of it with confidence.

Used by every kind that has to know the quality of a search. Reads only; nothing here writes to a database.
"""
