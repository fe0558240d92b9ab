"""Inserts 2 artists, 107 tracks and 3 events with SQLAlchemy; knows nothing of persist_pipeline.

Finds its server as psql does (PGHOST, PGPORT, PGDATABASE, PGUSER).
"""
from sqlalchemy import Column, DateTime, ForeignKey, Integer, BigInteger, Table, Text, create_engine, func, insert
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Session, declarative_base, relationship

Base = declarative_base()


class Artist(Base):
    __tablename__ = "artists"
    id = Column(Integer, primary_key=True)
    name = Column(Text, nullable=False)
    tracks = relationship("Track", back_populates="artist")


class Track(Base):
    __tablename__ = "tracks"
    id = Column(BigInteger, primary_key=True)
    artist_id = Column(ForeignKey("artists.id"), nullable=False)
    title = Column(Text, nullable=False)
    tags = Column(ARRAY(Text))
    seen_at = Column(DateTime(timezone=True), server_default=func.now(), nullable=False)
    artist = relationship("Artist", back_populates="tracks")
    __mapper_args__ = {"eager_defaults": True}


events = Table(
    "events",
    Base.metadata,
    Column("at", DateTime(timezone=True), server_default=func.now()),
    Column("what", Text, nullable=False),
)

engine = create_engine("postgresql+psycopg2://")

# the unit of work: parents get their ids first, and their children refer to them
with Session(engine) as session:
    satie = Artist(name="Erik Satie")
    debussy = Artist(name="Claude Debussy")
    satie.tracks = [Track(title=f"Gnossienne {n}", tags=["piano"]) for n in range(1, 7)]
    debussy.tracks = [Track(title=f"Etude {n}") for n in range(1, 101)]
    session.add_all([satie, debussy])
    session.flush()
    assert satie.id > 0 and debussy.id > 0
    assert all(track.artist_id == satie.id for track in satie.tracks)
    assert len({track.id for track in satie.tracks + debussy.tracks}) == 106
    assert satie.tracks[0].seen_at is not None
    artist_id = satie.id
    session.commit()

# what is rolled back is not there
with Session(engine) as session:
    session.add(Track(artist_id=artist_id, title="Rolled back"))
    session.flush()
    session.rollback()

with engine.begin() as connection:
    result = connection.execute(insert(Track).values(artist_id=artist_id, title="Core"))
    assert result.rowcount == 1 and result.inserted_primary_key[0] > 0
    connection.execute(events.insert(), [{"what": "began"}, {"what": "went on"}, {"what": "ended"}])
