"""Inserts 2 artists, 107 tracks and 3 events with psycopg2; knows nothing of persist_pipeline.

Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
"""
import io

import psycopg2
from psycopg2.extras import execute_values

connection = psycopg2.connect("")
cursor = connection.cursor()

# an id that the server gives, for a row that refers to it
cursor.execute("INSERT INTO artists (name) VALUES (%s) RETURNING id", ("Erik Satie",))
(satie,) = cursor.fetchone()
cursor.execute("INSERT INTO artists (name) VALUES (%s) RETURNING id, name", ("Claude Debussy",))
debussy, name = cursor.fetchone()
assert debussy > satie and name == "Claude Debussy"
assert cursor.rowcount == 1

cursor.execute(
    "INSERT INTO tracks (artist_id, title, tags) VALUES (%s, %s, %s) RETURNING id, seen_at",
    (satie, "Vexations", ["piano", "slow"]),
)
track, seen_at = cursor.fetchone()
assert track > 0 and seen_at is not None
connection.commit()

# several rows in a statement
ids = execute_values(
    cursor,
    "INSERT INTO tracks (artist_id, title) VALUES %s RETURNING id",
    [(debussy, f"Prelude {n}") for n in range(1, 4)],
    fetch=True,
)
assert len(ids) == 3 and cursor.rowcount == 3
cursor.executemany("INSERT INTO tracks (artist_id, title) VALUES (%s, %s)", [(satie, "One"), (satie, "Two")])

# a statement that is prepared
cursor.execute("PREPARE insert_track (int, text) AS INSERT INTO tracks (artist_id, title) VALUES ($1, $2)")
cursor.execute("EXECUTE insert_track (%s, %s)", (satie, "Prepared"))
assert cursor.rowcount == 1
cursor.execute("DEALLOCATE insert_track")

# COPY
rows = "".join(f"{debussy}\tCopied {n}\n" for n in range(1, 101))
cursor.copy_expert("COPY tracks (artist_id, title) FROM STDIN", io.StringIO(rows))
assert cursor.rowcount == 100
connection.commit()

# what is rolled back is not there
cursor.execute("INSERT INTO tracks (artist_id, title) VALUES (%s, %s)", (satie, "Rolled back"))
connection.rollback()

cursor.executemany("INSERT INTO events (what) VALUES (%s)", [("began",), ("went on",), ("ended",)])
connection.commit()
connection.close()
