"""A worker: one process on one device that runs models for the front end. It never sees HTTP."""
