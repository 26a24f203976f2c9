"""Sources, typed rows, statistics, metrics and splits of tables; uses neither a store nor the engine."""
