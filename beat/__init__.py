"""Beat: when things are done - the schedule, and one file per duty."""
