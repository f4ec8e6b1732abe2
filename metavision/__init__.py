"""metavision: meta-learning and few-shot learning in vision, from one command line."""

__version__ = "0.1.0"
__all__ = ["Classifier", "FewShotClassifier", "adapt", "load"]


def __getattr__(name: str) -> object:
    # Loaded on demand: `import metavision` must stay cheap for the command line's help and completion.
    if name in __all__:
        from metavision import api

        return getattr(api, name)
    raise AttributeError(f"module 'metavision' has no attribute {name!r}")
