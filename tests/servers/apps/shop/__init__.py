"""A reader's app as many are: a router, a middleware, a lifespan, a database, an upload."""
