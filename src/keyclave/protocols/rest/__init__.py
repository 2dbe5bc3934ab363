"""REST over HTTP/1.1: JSON in and out, RFC 9457 problems, one fast lane for POST and Starlette for everything else."""
