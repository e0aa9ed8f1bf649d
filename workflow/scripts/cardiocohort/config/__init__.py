"""The config: every key, its check, and the documents made from them. Light: every job imports it."""
