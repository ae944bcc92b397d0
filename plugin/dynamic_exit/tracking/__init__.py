"""Written folders in trackers of experiments: MLflow."""

from ..core.lazy import lazy_exports

__all__ = ["PyfuncModel", "log_folder"]

__getattr__, __dir__ = lazy_exports(__name__, {"mlflow": ("PyfuncModel", "log_folder")})
