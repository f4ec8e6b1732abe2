"""metavision: meta-learning and few-shot learning in vision, from one command line."""

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> object:
    # Loaded on demand: `import metavision` must stay cheap for the command line's help and completion.
    if name == "load":
        from metavision.api import load

        return load
    raise AttributeError(f"module 'metavision' has no attribute {name!r}")
