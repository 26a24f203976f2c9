"""Features that are known at the scheduled departure of a flight: weather, plane, and recent delay rates."""

from tidemill import Aggregate, Entity, FeatureView

airport = Entity("airport", ("origin",))

weather = FeatureView(
    name="weather",
    entity=airport,
    source="weather",
    columns=("temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"),
    ttl="6h",
    owner="punctuality team",
    description="The latest hourly report of the origin airport that was published by then",
)

plane = FeatureView(
    name="plane",
    entity=Entity("plane", ("tailnum",)),
    source="planes",
    columns=("plane_year", "seats"),
    owner="punctuality team",
    description="Year of construction and seats, from the register",
)


def delay_rates(name: str, *keys: str) -> FeatureView:
    """Return a view of the share of late arrivals among the flights that landed in the last 3 hours, day and week."""
    return FeatureView(
        name=name,
        entity=Entity(name, keys),
        source="arrivals",
        aggregates=tuple(
            Aggregate(name=f"late_{window}", column="late", statistic="mean", window=window)
            for window in ("3h", "24h", "7d")
        ),
        every="1h",
        owner="punctuality team",
        description=f"Share of late arrivals by {', '.join(keys) or 'nothing'}, as known at the last full hour",
    )


overall = delay_rates("overall")
airport_rates = delay_rates("airport", "origin")
airline = delay_rates("airline", "carrier")
destination = delay_rates("destination", "dest")
airline_at = delay_rates("airline_at", "origin", "carrier")
tail = delay_rates("tail", "tailnum")
