"""HTTP: the app, its routes and schemas, errors, keys, and the writers of answers."""
