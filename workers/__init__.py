"""Workers: how it runs - the Celery app, drains, leases and wake-ups."""
