"""What several tests stand on: models to serve, laws to compare with, things to watch."""
