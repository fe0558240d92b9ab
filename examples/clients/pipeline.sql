-- From now on the worker writes the rows, and no client needs to know.

-- Clients of these use RETURNING, and count their rows: each gets a view by its old name.  A client
-- needs INSERT on the table, as before, and on the view.
ALTER TABLE artists RENAME TO artists_table;
ALTER TABLE tracks RENAME TO tracks_table;
CREATE VIEW artists AS SELECT * FROM artists_table;
CREATE VIEW tracks AS SELECT * FROM tracks_table;
CREATE TRIGGER enqueue INSTEAD OF INSERT ON artists FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
CREATE TRIGGER enqueue INSTEAD OF INSERT ON tracks FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
GRANT SELECT, INSERT ON artists, tracks TO client;

-- Nobody asks what has become of an event: a trigger on the table does.
CREATE TRIGGER enqueue BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION persist_enqueue_trigger();
