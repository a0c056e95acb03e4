"""What a route takes and answers, as data: read and answered by it, and printed from it into the OpenAPI documents."""
