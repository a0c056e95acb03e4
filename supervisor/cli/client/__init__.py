"""The way to a running network: where it is, its admin API, what is asked of it again and again."""
