"""Scrapes pages, and saves what they have by one of two pipelines:

    scraper.py {insert|enqueue} PAGES

PAGES has a page a line, as JSON, and stands for the web.  Prints the URL of a page once what it has
is saved; SIGTERM ends it within two seconds, and what it hasn't printed is to be scraped again.
Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
"""
import asyncio
import importlib
import json
import os
import random
import signal
import sys

SCRAPERS = 16
STOP_SECONDS = 1.5


async def fetch(line):
    await asyncio.sleep(random.uniform(0.001, 0.02))
    return json.loads(line)


async def scrape(lines, pipeline, stopped):
    for line in lines:  # the scrapers share it
        if stopped.is_set():
            break
        page = await fetch(line)
        await pipeline.save(page)
        print(page["url"], flush=True)


async def main(name, path):
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    pipeline = importlib.import_module(f"{name}_pipeline").Pipeline()
    await pipeline.open()

    async def scrape_all():
        with open(path, encoding="utf-8") as lines:
            await asyncio.gather(*[scrape(lines, pipeline, stopped) for _ in range(SCRAPERS)])
        await pipeline.close()

    scraping = asyncio.create_task(scrape_all())
    stopping = asyncio.create_task(stopped.wait())
    await asyncio.wait([scraping, stopping], return_when=asyncio.FIRST_COMPLETED)
    # what is under way is finished, if it is in time
    await asyncio.wait([scraping], timeout=STOP_SECONDS)
    if not scraping.done():
        print("stopped before everything was saved", file=sys.stderr, flush=True)
        os._exit(1)
    stopping.cancel()
    await scraping


asyncio.run(main(*sys.argv[1:]))
