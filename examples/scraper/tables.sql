-- What the scraper writes to: three kinds of items, two foreign keys.
CREATE TABLE artists (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE albums (
    id        int PRIMARY KEY,
    artist_id int NOT NULL REFERENCES artists,
    title     text NOT NULL,
    year      int CHECK (year > 1400)
);
CREATE TABLE tracks (
    album_id int NOT NULL REFERENCES albums,
    number   int,
    title    text NOT NULL,
    tags     text[],
    PRIMARY KEY (album_id, number)
);
CREATE INDEX ON albums (artist_id);
CREATE INDEX ON tracks USING gin (tags);

CREATE ROLE scraper LOGIN;
GRANT SELECT, INSERT ON artists, albums, tracks TO scraper;
