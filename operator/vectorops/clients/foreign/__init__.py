"""One budget for what strangers send: bytes, seconds and threads, shared by database, provider, service and Secrets.

Whoever may create a VectorStore chooses whose answers this process reads. Nothing of that may take the process, nor
the turn of another namespace: `budget` shares out memory, `threads` the time of parsers, `answers` counts what a
database sends, `jsontext` bounds what a JSON text becomes. Refused: trusting a length, a type or a pace that the other
side states.
"""
