"""Sharding what trains over the devices of a mesh (FSDP2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def shard(module: nn.Module, mesh: DeviceMesh) -> None:
    """Shard a module's layers one by one, and the rest of it as one.

    Layers are gathered when they run and let go afterwards; the rest, head and embeddings, stays
    gathered through a training step, so that the loss can use the head in parts.

    Args:
        module: What is called in a training step.
        mesh: Lightning's mesh, with a dimension `data_parallel`.
    """
    from torch.distributed.fsdp import fully_shard

    untyped: Any = mesh
    devices = untyped["data_parallel"]
    for layer in _layers(module):
        fully_shard(layer, mesh=devices)
    fully_shard(module, mesh=devices, reshard_after_forward=False)


def _layers(module: nn.Module) -> list[nn.Module]:
    """Every entry of the module's lists of modules, such as a decoder's layers."""
    lists = [each for each in module.modules() if isinstance(each, nn.ModuleList)]
    return [layer for each in lists for layer in each]
