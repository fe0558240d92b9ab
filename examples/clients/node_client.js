// Inserts 2 artists, 107 tracks and 3 events with node-postgres; knows nothing of persist_pipeline.
// Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
'use strict';

const assert = require('assert');
const { Pool } = require('pg');

async function main() {
  const pool = new Pool({ max: 1 });
  const client = await pool.connect();

  // an id that the server gives, for a row that refers to it
  await client.query('BEGIN');
  const satie = (await client.query('INSERT INTO artists (name) VALUES ($1) RETURNING id', ['Erik Satie'])).rows[0].id;
  const debussy = (await client.query('INSERT INTO artists (name) VALUES ($1) RETURNING id', ['Claude Debussy'])).rows[0].id;
  assert(debussy > satie);
  const track = await client.query(
    'INSERT INTO tracks (artist_id, title, tags) VALUES ($1, $2, $3) RETURNING id, seen_at',
    [satie, 'Vexations', ['piano', 'slow']]);
  assert.strictEqual(track.rowCount, 1);
  assert(track.rows[0].id > 0 && track.rows[0].seen_at instanceof Date);

  // a statement that the driver prepares by a name
  for (let n = 1; n <= 102; n++) {
    const result = await client.query({
      name: 'insert-track',
      text: 'INSERT INTO tracks (artist_id, title) VALUES ($1, $2)',
      values: [debussy, `Prelude ${n}`],
    });
    assert.strictEqual(result.rowCount, 1);
  }
  await client.query('COMMIT');

  // several rows in a statement
  const several = await client.query(
    'INSERT INTO tracks (artist_id, title) SELECT $1, unnest($2::text[]) RETURNING id', [satie, ['One', 'Two', 'Three', 'Four']]);
  assert.strictEqual(several.rowCount, 4);
  assert.strictEqual(new Set(several.rows.map((row) => row.id)).size, 4);

  // what is rolled back is not there
  await client.query('BEGIN');
  await client.query('INSERT INTO tracks (artist_id, title) VALUES ($1, $2)', [satie, 'Rolled back']);
  await client.query('ROLLBACK');

  await client.query("INSERT INTO events (what) VALUES ('began'), ('went on'), ('ended')");
  client.release();
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
