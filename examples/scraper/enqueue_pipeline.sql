-- Rows that the tables refuse are dead letters, also those that don't fit at the call; what is
-- there already is skipped.
CREATE EXTENSION persist_pipeline;
SELECT persist_configure(kind::regclass, bad_items => 'dead', on_conflict => 'nothing')
FROM unnest(ARRAY['artists', 'albums', 'tracks']) AS kind;
SELECT persist_grant('scraper');
