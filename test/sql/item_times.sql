-- Dates and times, with modifiers and in the session's TimeZone, DateStyle and
-- IntervalStyle; then uuid and network addresses.

SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS persist_pipeline;
CREATE SCHEMA item_times;
SET search_path = item_times, public;

SET timezone = 'America/New_York';
CREATE TABLE got (
	n int, d date, t time, t0 time(0), ttz timetz, ts timestamp, ts3 timestamp(3),
	tz timestamptz, tz0 timestamptz(0), iv interval, ivh interval hour to minute,
	u uuid, a inet, c cidr, m macaddr);
CREATE TABLE expected (LIKE got);
CREATE TABLE items (item jsonb);
INSERT INTO items VALUES
	('{"n": 1, "d": "2024-02-29", "t": "23:59:59.999999", "t0": "11:59:59.6", "ttz": "12:00+02"}'),
	('{"n": 2, "ts": "2024-02-29T12:34:56.123456", "ts3": "2024-02-29 12:34:56.7896", "tz": "2024-07-01 00:00", "tz0": "2024-01-01T00:00:00.6Z"}'),
	('{"n": 3, "tz": "2024-07-01T00:00:00+09:00", "d": "infinity", "ts": "-infinity"}'),
	('{"n": 4, "iv": "1 year 2 mons 3 days 04:05:06.7", "ivh": "1 day 02:03:04"}'),
	('{"n": 5, "iv": "P1Y2M3DT4H5M6S", "d": "0044-03-15 BC"}'),
	('{"n": 6, "u": "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a": "192.168.1.5/24", "c": "2001:db8::/32", "m": "08:00:2b:01:02:03"}'),
	('{"n": 7, "d": null, "tz": null, "iv": null, "u": null, "a": null}');

SELECT count(persist_enqueue('got', item)) FROM items;
INSERT INTO expected SELECT (jsonb_populate_record(NULL::expected, item)).* FROM items;
SELECT persist_flush();

SELECT got::text AS only_got FROM got EXCEPT ALL SELECT expected::text FROM expected;
SELECT expected::text AS only_expected FROM expected EXCEPT ALL SELECT got::text FROM got;
SELECT * FROM got ORDER BY n;

-- the session's settings as of the call decide what a value means
SET DateStyle = 'German';
SET timezone = 'Asia/Tokyo';
SELECT count(persist_enqueue('got', '{"n": 8, "d": "01.02.2024", "tz": "01.02.2024 12:00"}'));
SET DateStyle = 'ISO, MDY';
SET timezone = 'UTC';
SELECT persist_flush();
SELECT d, tz FROM got WHERE n = 8;

DROP SCHEMA item_times CASCADE;
