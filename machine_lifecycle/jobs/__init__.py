"""The job queue in Redis: keys, functions, client, worker."""
