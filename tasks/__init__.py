"""Tasks: what is done, as plain functions that know nothing of Celery."""
