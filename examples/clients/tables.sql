-- What the clients of this folder write to, before and without persist_pipeline.
CREATE TABLE artists (id serial PRIMARY KEY, name text NOT NULL);
CREATE TABLE tracks (
    id        bigserial PRIMARY KEY,
    artist_id int NOT NULL REFERENCES artists,
    title     text NOT NULL,
    tags      text[],
    seen_at   timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE events (at timestamptz NOT NULL DEFAULT now(), what text NOT NULL);

CREATE ROLE client LOGIN;
GRANT SELECT, INSERT ON artists, tracks, events TO client;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO client;
