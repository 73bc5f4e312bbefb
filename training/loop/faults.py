"""Which errors say that a file could not be written or read, whoever wrote it."""

from __future__ import annotations

from safetensors import SafetensorError

# torch.save tells of a full disk by a RuntimeError of its archive writer.
_TORCH_WRITER = ("PytorchStreamWriter", "inline_container", "unexpected pos")


def is_file_fault(error: BaseException) -> bool:
    """Say whether a full disk, a missing right or a damaged file is behind an error."""
    if isinstance(error, OSError | SafetensorError):
        return True
    return isinstance(error, RuntimeError) and any(word in str(error) for word in _TORCH_WRITER)
