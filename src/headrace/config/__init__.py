"""The run config: schema, loading, overrides, and every check that needs no device."""

from headrace.config.load import RunConfig, load_run_config
from headrace.config.schema import HeadraceConfig

__all__ = ["HeadraceConfig", "RunConfig", "load_run_config"]
