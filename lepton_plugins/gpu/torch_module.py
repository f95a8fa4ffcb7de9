"""GPU memory of a torch module without a GPU: shapes and lifetimes of its tensors, nothing computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import finalize

from lepton_plugins.gpu.memory import GpuMemory, Margins


def gpu_memory(
    module: Any,
    inputs: Sequence[Any] | Mapping[str, Any],
    *,
    precision: str | None = None,
    margins: Margins | None = None,
) -> GpuMemory:
    """What a forward pass of `module` on `inputs` (tensors of the wanted batch, by place or name) holds at most.

    The pass runs on fake tensors: each operation makes tensors of the right shape without memory, and their
    lifetimes are those of a real pass in inference mode. What a kernel allocates inside itself isn't seen (packed
    weights of recurrent layers, convolutions' scratch space): that is what the workspace margin is for. `precision`
    converts floating-point weights and inputs first; integers keep theirs.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.func import functional_call
    from torch.utils._python_dispatch import TorchDispatchMode

    dtype = None if precision is None else getattr(torch, precision)

    class Lifetimes(TorchDispatchMode):  # type: ignore[misc]
        """Bytes of storages that operations made and that are still alive."""

        def __init__(self) -> None:
            super().__init__()
            self.alive, self.most, self.known = 0, 0, set[int]()

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, tuple | list) else (made,):
                if isinstance(tensor, torch.Tensor):
                    self.see(tensor.untyped_storage())
            return made

        def see(self, storage: Any) -> None:
            key = storage._cdata
            if key not in self.known:
                self.known.add(key)
                size = storage.nbytes()
                self.alive += size
                self.most = max(self.most, self.alive)
                finalize(storage, self.gone, key, size)

        def gone(self, key: int, size: int) -> None:
            self.known.discard(key)
            self.alive -= size

    def converted(tensor: Any) -> Any:
        return tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor

    # A tied weight is named once: functional_call gives it to its other names.
    own = {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}
    with FakeTensorMode() as fake, torch.no_grad():
        held = {name: converted(fake.from_tensor(value)) for name, value in own.items()}
        named = dict(inputs) if isinstance(inputs, Mapping) else {}
        placed = [] if named else [converted(fake.from_tensor(value)) for value in inputs]
        named = {name: converted(fake.from_tensor(value)) for name, value in named.items()}
        # Weights may share a storage without being tied.
        storages = {value.untyped_storage()._cdata: value.untyped_storage().nbytes() for value in held.values()}
        weights = sum(storages.values())
        given = sum(value.untyped_storage().nbytes() for value in [*placed, *named.values()])
        seen = Lifetimes()
        seen.known |= {value.untyped_storage()._cdata for value in [*held.values(), *placed, *named.values()]}
        training, fused = module.training, torch.backends.mha.get_fastpath_enabled()
        module.eval()
        # Fused encoder layers would hide what lies inside them.
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with seen:
                functional_call(module, held, tuple(placed), named)
        finally:
            module.train(training)
            torch.backends.mha.set_fastpath_enabled(fused)
    return (margins or Margins()).around(weights=weights, activations=given + seen.most)
