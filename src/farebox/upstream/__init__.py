"""The HTTP client side: the only place that opens sockets to vendors."""
