"""A folder whose modules hide those that everything imports; each leaves a trace if it is run."""

from pathlib import Path

OTHERS = (
    "numpy",
    "torch",
    "optuna",
    "sqlalchemy",
    "pydantic",
    "typer",
    "rich",
    "ray",
    "sklearn",
    "safetensors",
    "nas",
)
STANDARD = (
    "json",
    "typing",
    "random",
    "pickle",
    "multiprocessing",
    "tempfile",
    "logging",
    "socket",
    "sitecustomize",
)


def set_traps(folder: Path, names: tuple[str, ...] = OTHERS + STANDARD) -> Path:
    """Put the modules into `folder`; return the file that exists as soon as one of them has been imported."""
    trace = folder.with_name(f"{folder.name}-trapped")
    for name in names:
        (folder / f"{name}.py").write_text(f"open({str(trace)!r}, 'a').write(__name__ + '\\n')\n")
    return trace
