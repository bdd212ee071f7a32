"""Alarms: what has gone wrong reaches a person, once."""
