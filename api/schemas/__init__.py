"""The bodies of requests and answers; what stands here is what /docs shows."""
