"""The REST API of data sets, one module per noun."""
