// Inserts 2 artists, 107 tracks and 3 events with knex; knows nothing of persist_pipeline.
// Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
'use strict';

const assert = require('assert');
const knex = require('knex')({ client: 'pg', connection: {}, pool: { min: 0, max: 1 } });

async function main() {
  // ids that the server gives, for rows that refer to them
  const satie = await knex.transaction(async (trx) => {
    const artists = await trx('artists').insert([{ name: 'Erik Satie' }, { name: 'Claude Debussy' }], ['id', 'name']);
    assert.deepStrictEqual(artists.map((artist) => artist.name), ['Erik Satie', 'Claude Debussy']);
    const [track] = await trx('tracks').insert({ artist_id: artists[0].id, title: 'Vexations', tags: ['piano'] }, ['id', 'seen_at']);
    assert(track.id > 0 && track.seen_at instanceof Date);
    const ids = await trx.batchInsert(
      'tracks', Array.from({ length: 105 }, (_, n) => ({ artist_id: artists[1].id, title: `Prelude ${n}` })), 20).returning('id');
    assert.strictEqual(new Set(ids.map((row) => row.id)).size, 105);
    return artists[0].id;
  });

  const result = await knex.raw('INSERT INTO tracks (artist_id, title) VALUES (?, ?)', [satie, 'Raw']);
  assert.strictEqual(result.rowCount, 1);

  // what is rolled back is not there
  await assert.rejects(knex.transaction(async (trx) => {
    await trx('tracks').insert({ artist_id: satie, title: 'Rolled back' });
    throw new Error('rolled back');
  }), /rolled back/);

  await knex('events').insert([{ what: 'began' }, { what: 'went on' }, { what: 'ended' }]);
  await knex.destroy();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
