"""What a result depends on beside the code: the machine, and the versions of all that was timed."""

import importlib.metadata
import os
import platform
import subprocess
import tomllib
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.backends.openssl import backend
from pymongocrypt import libmongocrypt_version

PACKAGES: Final = (
    "rust-core",
    "cryptography",
    "pynacl",
    "networkx",
    "rfc8785",
    "pymongo",
    "pymongocrypt",
    "aws-encryption-sdk",
    "aws-cryptographic-material-providers",
)
CRATES: Final = (
    "ed25519-zebra",
    "ed25519-dalek",
    "curve25519-dalek",
    "aws-lc-rs",
    "aws-lc-sys",
    "serde_jcs",
    "serde_json",
    "ahash",
    "rayon",
    "h3o",
    "pyo3",
)


def machine() -> dict[str, Any]:
    """Processor, cores, system, and how busy the machine was (load of the last minute)."""
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "system": platform.platform(),
        "load_1min": round(os.getloadavg()[0], 2),
    }


def versions(cargo_lock: Path) -> dict[str, str]:
    """Languages, Python packages and Rust crates."""
    locked = {
        one["name"]: one["version"] for one in tomllib.loads(cargo_lock.read_text())["package"]
    }
    rustc = subprocess.run(["rustc", "--version"], check=True, capture_output=True, text=True)
    return {
        "python": platform.python_version(),
        "rustc": rustc.stdout.split()[1],
        "openssl (cryptography)": backend.openssl_version_text().split()[1],
        "libmongocrypt": libmongocrypt_version(),
        **{f"pypi {name}": importlib.metadata.version(name) for name in PACKAGES},
        **{f"crate {name}": locked[name] for name in CRATES},
    }


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())
