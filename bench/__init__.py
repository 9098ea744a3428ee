"""Benchmarks: figures that are printed with the machine, the date and what the servers promised to keep."""
