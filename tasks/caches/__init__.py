"""Caches in levels: in the process, in Redis and, for vectors, in Postgres behind them."""
