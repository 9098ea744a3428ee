"""Configuration: settings, Celery, logging. Only here the environment is read."""
