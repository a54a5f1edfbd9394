"""The stable error codes that only HTTP knows of; `app.py` gives each its status."""

TOO_LARGE = "request_too_large"
"""The body is larger than the service takes."""

WRONG_CONTENT_TYPE = "unsupported_content_type"
"""The body is of another kind than the route takes."""

FORBIDDEN = "model_not_deletable"
"""The operator alone can take away a base model."""

WEBHOOK_SILENT = "webhook_did_not_answer"
"""A sample was posted to a webhook endpoint, and nothing came back in time."""

INVALID_API_KEY = "invalid_api_key"
"""There is no API key, or none that is taken."""

METRICS_REFUSED = "metrics_refused"
"""The metrics were asked for without their token."""

INSUFFICIENT_SCOPE = "insufficient_scope"
"""The API key's scope does not reach."""

FOREIGN_ORIGIN = "foreign_origin"
"""A service without keys was called from elsewhere, or from a page of another site."""

TOO_MANY_STREAMS = "too_many_streams"
"""The process streams events to as many clients as it can."""

VERDICT_NOT_MADE = "verdict_not_made"
"""There is no verdict on the job, or none yet."""

RECEIPT_NOT_READY = "receipt_not_ready"
"""The job's training process has not read its files yet."""
