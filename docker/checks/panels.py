"""What the dashboard shows, from top to bottom."""

from docker.checks.key_panels import KEYS
from docker.checks.load_panels import GUIDES, LOAD
from docker.checks.request_panels import COST, REQUESTS, REWARD

ROWS = (REQUESTS, COST, REWARD, LOAD, GUIDES, KEYS)
