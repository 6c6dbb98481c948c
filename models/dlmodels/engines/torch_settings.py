"""What a model may ask of torch."""

import msgspec

DATATYPES = ("fp32", "tf32", "bf16", "fp16")


class TorchSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Each is honoured, or refused when the model is prepared; none is ignored."""

    datatype: str = "fp32"
    """One of DATATYPES: what is computed in. `tf32` and `fp16` on GPUs only; `bf16` also on CPUs that have instructions for it."""
    compile: bool = False
    """torch.compile, once, when the model is prepared: takes up to minutes, in which a GPU
    runs nothing else. Not for TorchScript."""
    cuda_graphs: bool | None = None
    """Replay recorded forwards once a batch size is met often; None: on GPUs. Not on CPUs."""

    def __post_init__(self) -> None:
        """Raises ValueError, which msgspec makes its own."""
        if self.datatype not in DATATYPES:
            raise ValueError(f"torch has no datatype {self.datatype!r}: use one of {', '.join(DATATYPES)}")
