"""Hands over 2 artists, 107 tracks and 3 events with psycopg 3, by persist_enqueue.

Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
"""
import psycopg
from psycopg.types.json import Jsonb

ENQUEUE = "SELECT persist_enqueue(%s, %s)"

with psycopg.connect("") as connection:
    # rows that others refer to get their ids from the sequence, since nothing is inserted yet
    artists = []
    for name in ("Erik Satie", "Claude Debussy"):
        (artist,) = connection.execute("SELECT nextval('artists_id_seq')").fetchone()
        connection.execute(ENQUEUE, ("artists", Jsonb({"id": artist, "name": name})))
        artists.append(artist)
    satie, debussy = artists

    # one row; what the function returns names it in persist_where() and in dead letters
    track = {"artist_id": satie, "title": "Vexations", "tags": ["piano", "slow"]}
    (item,) = connection.execute(ENQUEUE, ("tracks", Jsonb(track))).fetchone()
    assert item > 0

    # many rows in one call
    tracks = [{"artist_id": debussy, "title": f"Prelude {n}"} for n in range(1, 51)]
    (items,) = connection.execute("SELECT persist_enqueue_many(%s, %s)", ("tracks", Jsonb(tracks))).fetchone()
    assert len(items) == 50 and items == sorted(items) and items[0] > item

    # many calls in a few round trips
    with connection.pipeline():
        cursor = connection.cursor()
        cursor.executemany(
            ENQUEUE, [("tracks", Jsonb({"artist_id": satie, "title": f"Gnossienne {n}"})) for n in range(1, 57)]
        )
    connection.commit()

    # what is rolled back is not there
    connection.execute(ENQUEUE, ("tracks", Jsonb({"artist_id": satie, "title": "Rolled back"})))
    connection.rollback()

    # what doesn't fit is an error of the call, and a savepoint keeps the others
    try:
        with connection.transaction():
            connection.execute(ENQUEUE, ("tracks", Jsonb({"artist_id": satie, "titel": "No such column"})))
        raise AssertionError("there is no error")
    except psycopg.errors.UndefinedColumn:
        pass
    for what in ("began", "went on", "ended"):
        connection.execute(ENQUEUE, ("events", Jsonb({"what": what})))
