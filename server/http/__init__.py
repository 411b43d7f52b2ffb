"""HTTP: the app, its routes and schemas, errors, keys, and how answers are written."""
