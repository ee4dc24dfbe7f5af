"""The REST API of accounts, one module per noun."""
