"""Hands what a page has over to the server, which writes it: batches, rows that are refused, and the
last rows at a stop are persist_pipeline's business.
"""
import asyncio
import logging

import psycopg
from psycopg.types.json import Jsonb

KINDS = ("artists", "albums", "tracks")  # parents first
ENQUEUE = "SELECT " + ", ".join(["persist_enqueue_many(%s, %s)"] * len(KINDS))
LONGEST_DELAY = 5.0


class Pipeline:
    async def open(self):
        self.connection = None
        self.lock = asyncio.Lock()

    async def save(self, page):
        """Return when the page's rows are as safe as a commit makes them."""
        values = [value for kind in KINDS for value in (kind, Jsonb(page.get(kind, [])))]
        delay = 0.1
        while True:
            try:
                async with self.lock:
                    if self.connection is None or self.connection.closed:
                        self.connection = await psycopg.AsyncConnection.connect("", autocommit=True)
                    await self.connection.execute(ENQUEUE, values)
                return
            except psycopg.OperationalError as error:
                logging.warning("%s; again in %.1f s", error, delay)
                await asyncio.sleep(delay)
                delay = min(delay * 2, LONGEST_DELAY)

    async def close(self):
        if self.connection:
            await self.connection.close()
