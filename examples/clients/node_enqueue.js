// Hands over 2 artists, 107 tracks and 3 events with node-postgres, by persist_enqueue.
// Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
'use strict';

const assert = require('assert');
const { Pool } = require('pg');

const ENQUEUE = 'SELECT persist_enqueue($1, $2) AS id';

async function main() {
  const pool = new Pool({ max: 1 });
  const client = await pool.connect();

  // rows that others refer to get their ids from the sequence, since nothing is inserted yet
  await client.query('BEGIN');
  const artists = [];
  for (const name of ['Erik Satie', 'Claude Debussy']) {
    const id = (await client.query("SELECT nextval('artists_id_seq')::int AS id")).rows[0].id;
    await client.query(ENQUEUE, ['artists', { id, name }]);
    artists.push(id);
  }
  const [satie, debussy] = artists;

  // a statement that the driver prepares by a name; the driver makes JSON of an object
  for (let n = 1; n <= 7; n++) {
    const result = await client.query({
      name: 'enqueue', text: ENQUEUE, values: ['tracks', { artist_id: satie, title: `Gnossienne ${n}`, tags: ['piano'] }],
    });
    assert(BigInt(result.rows[0].id) > 0n);
  }

  // many rows in one call; of an array the driver would make an array of SQL
  const tracks = Array.from({ length: 100 }, (_, n) => ({ artist_id: debussy, title: `Prelude ${n}` }));
  const many = await client.query('SELECT persist_enqueue_many($1, $2) AS ids', ['tracks', JSON.stringify(tracks)]);
  assert.strictEqual(many.rows[0].ids.length, 100);
  await client.query('COMMIT');

  // what is rolled back is not there
  await client.query('BEGIN');
  await client.query(ENQUEUE, ['tracks', { artist_id: satie, title: 'Rolled back' }]);
  await client.query('ROLLBACK');

  // what doesn't fit is an error of the call
  await assert.rejects(client.query(ENQUEUE, ['tracks', { artist_id: satie, titel: 'No such column' }]), { code: '42703' });

  for (const what of ['began', 'went on', 'ended']) {
    await client.query(ENQUEUE, ['events', { what }]);
  }
  client.release();
  await pool.end();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
