"""Embedded servers and a supervisor: a whole system on one machine."""
