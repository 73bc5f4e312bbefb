"""What the doctor sees of the models, their device and the memory they will need."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from models.faq import FaqError, load_faq
from models.release import ModelUnavailable, TrunkRelease, open_trunk, weight_files
from models.text.checkpoint import choose_device
from worker.commands.doctor.finding import Finding, Status
from worker.settings import Settings

_GIB = 1024**3
_BESIDE_THE_WEIGHTS_BYTES = _GIB  # torch, the catalogue's index and the events in flight


def check_models(settings: Settings) -> Sequence[Finding]:
    """Choose the device and verify the files; no weights are loaded."""
    if settings.model == "null":
        return [
            Finding(
                "models", Status.WARNING, "SHOPSTREAM_MODEL=null gives meaningless results",
                "use it for benchmarks only",
            )
        ]  # fmt: skip
    findings = [_device(settings)]
    try:
        trunk = open_trunk(settings.model)
    except ModelUnavailable as error:
        findings.append(Finding("models", Status.FAILED, str(error)))
    else:
        size = sum(path.stat().st_size for path in weight_files(trunk.folder))
        findings.append(_trunk(trunk, size))
        findings.append(_memory(size))
    if settings.sentiment_head is not None:
        findings.append(_head_folder(settings.sentiment_head))
    if settings.faq_file is not None:
        findings.append(_faq(settings.faq_file))
    return findings


def _device(settings: Settings) -> Finding:
    try:
        device, dtype = choose_device(settings.device, settings.dtype)
    except ModelUnavailable as error:
        return Finding("device", Status.FAILED, str(error))
    number = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return Finding(
            "device", Status.OK,
            f"{device} ({name}), {number}, {free / _GIB:.0f} of {total / _GIB:.0f} GiB free",
        )  # fmt: skip
    threads = settings.threads or torch.get_num_threads()
    return Finding("device", Status.OK, f"{device}, {number}, {threads} threads")


def _trunk(trunk: TrunkRelease, size: int) -> Finding:
    return Finding(
        "models", Status.OK, f"text trunk {trunk.content_id}, {size / 1e6:.0f} MB, files verified"
    )


def _head_folder(folder: Path) -> Finding:
    weights = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    if not weights:
        return Finding(
            "models", Status.FAILED, f"{folder} holds no sentiment head (no safetensors)",
            "set SHOPSTREAM_SENTIMENT_HEAD to the folder that `shopstream train sentiment` wrote",
        )  # fmt: skip
    return Finding("models", Status.OK, f"sentiment head in {folder}")


def _faq(path: Path) -> Finding:
    try:
        entries = load_faq(path)
    except FaqError as error:
        return Finding("models", Status.FAILED, f"SHOPSTREAM_FAQ_FILE: {error}")
    return Finding("models", Status.OK, f"{len(entries)} questions in {path}")


def _memory(weights_bytes: int) -> Finding:
    needed = 2 * weights_bytes + _BESIDE_THE_WEIGHTS_BYTES
    free = free_memory_bytes()
    if free is None:
        return Finding("memory", Status.OK, f"about {needed / _GIB:.1f} GiB will be needed")
    text = f"{free / _GIB:.1f} GiB free, about {needed / _GIB:.1f} GiB will be needed"
    if free < needed:
        return Finding(
            "memory", Status.WARNING, text, "free some, or the system may end the worker"
        )
    return Finding("memory", Status.OK, text)


def free_memory_bytes() -> int | None:
    """Return the memory this process may still take: the machine's, or its cgroup's if less."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None  # not Linux
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
        used = int(Path("/sys/fs/cgroup/memory.current").read_text(encoding="ascii"))
    except OSError:
        return free
    return free if limit == "max" else min(free, int(limit) - used)
