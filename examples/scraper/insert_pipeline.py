"""Writes what pages have with INSERT: a queue, a task that writes a batch when there is enough of it
or when its oldest page has waited long enough, a row at a time where a batch is refused, a new
connection where the server is gone, and what waits at a stop.
"""
import asyncio
import logging

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

KINDS = ("artists", "albums", "tracks")  # parents first
BATCH_ROWS = 1000
FLUSH_SECONDS = 0.1
QUEUE_PAGES = 10_000
LONGEST_DELAY = 5.0


class Pipeline:
    async def open(self):
        self.connection = None
        self.queue = asyncio.Queue(QUEUE_PAGES)
        self.writer = asyncio.create_task(self.write())

    async def save(self, page):
        """Return when the page's rows are committed."""
        done = asyncio.get_running_loop().create_future()
        await self.queue.put((page, done))
        await done

    async def close(self):
        """Write what waits, and end."""
        await self.queue.put(None)
        try:
            await self.writer
        finally:
            if self.connection:
                await self.connection.close()

    async def write(self):
        is_last = False
        while not is_last:
            batch, is_last = await self.take_batch()
            if batch:
                await self.write_until_committed([page for page, _ in batch])
            for _, done in batch:
                if not done.done():
                    done.set_result(None)

    async def take_batch(self):
        """Pages for one transaction, and whether they are the last."""
        loop = asyncio.get_running_loop()
        batch, rows, deadline = [], 0, None
        while rows < BATCH_ROWS:
            try:
                timeout = deadline and max(0, deadline - loop.time())
                entry = await asyncio.wait_for(self.queue.get(), timeout)
            except asyncio.TimeoutError:
                break
            if entry is None:
                return batch, True
            batch.append(entry)
            rows += sum(len(entry[0].get(kind, [])) for kind in KINDS)
            deadline = deadline or loop.time() + FLUSH_SECONDS
        return batch, False

    async def write_until_committed(self, pages):
        delay = 0.1
        while True:
            try:
                await self.write_batch(pages)
                return
            except psycopg.OperationalError as error:
                logging.warning("%s; again in %.1f s", error, delay)
                if self.connection:
                    await self.connection.close()
                    self.connection = None
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)

    async def write_batch(self, pages):
        if self.connection is None:
            self.connection = await psycopg.AsyncConnection.connect("", autocommit=True)
        async with self.connection.transaction():
            for kind in KINDS:
                await self.write_rows(kind, [row for page in pages for row in page.get(kind, [])])

    async def write_rows(self, kind, rows):
        """All rows of a kind at once; one by one, if one of them is refused."""
        by_columns = {}
        for row in rows:
            by_columns.setdefault(tuple(row), []).append(row)
        for columns, group in by_columns.items():
            insert = sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
                sql.Identifier(kind),
                sql.SQL(", ").join(map(sql.Identifier, columns)),
                sql.SQL(", ").join(map(sql.Placeholder, columns)),
            )
            try:
                async with self.connection.transaction():
                    await self.connection.cursor().executemany(insert, group)
            except psycopg.OperationalError:
                raise
            except psycopg.DatabaseError:
                for row in group:
                    await self.write_row(kind, insert, row)

    async def write_row(self, kind, insert, row):
        try:
            async with self.connection.transaction():
                await self.connection.execute(insert, row)
        except psycopg.OperationalError:
            raise
        except psycopg.DatabaseError as error:
            await self.connection.execute(
                "INSERT INTO refused_rows (kind, item, error) VALUES (%s, %s, %s)", (kind, Jsonb(row), str(error))
            )
