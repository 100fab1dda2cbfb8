"""Hard tests, apart from pytest's: `make test-hard` kills, spoils and floods, and prints one table."""
