"""What libraries read from the environment when a process that trains or answers imports them."""

ENVIRONMENT = {
    # Threads that spin long at a barrier take the processor from the very thread that they wait
    # for, wherever training shares its processors; threads that never spin wake up late. A short
    # spin costs nothing beside others and is half as fast again as none on a machine of our own.
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "20000",
    # By which cuBLAS computes the same each time; it reads this when it is first used.
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    # Progress bars do not belong into a log.
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "warning",
    "TOKENIZERS_PARALLELISM": "false",
    # MLflow's client tells its makers nothing, prints no links, and leaves it to us to ask again.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
"""Variables and their values."""
