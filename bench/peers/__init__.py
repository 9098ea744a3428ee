"""What people run today, for comparison in the same run on the same servers."""
