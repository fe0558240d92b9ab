-- Rows that the tables refuse, with the reason.
CREATE TABLE refused_rows (
    at    timestamptz NOT NULL DEFAULT now(),
    kind  text NOT NULL,
    item  jsonb NOT NULL,
    error text NOT NULL
);
GRANT INSERT ON refused_rows TO scraper;
