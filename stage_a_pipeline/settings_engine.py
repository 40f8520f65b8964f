"""The settings of the engine: the model, its devices or servers, and how it generates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from stage_a_pipeline.settings_paths import FilePath
from stage_a_pipeline.settings_sections import Section
from stage_a_pipeline.vocabulary import Dataset

BUILTIN_CHECKPOINT: Final = "builtin"
"""Stands for the small demonstration checkpoint inside this package."""

DEVICE: Final = r"^(cpu|cuda:(0|[1-9]\d*)(\+(0|[1-9]\d*))*)$"
"""`cpu`, `cuda:1`, or several CUDA devices that share one model, `cuda:0+1`."""

DEFAULT_MAX_PIXELS: Final[Mapping[Dataset, int]] = {"bbu": 1_048_576, "rru": 2_097_152}


def _server_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a server's URL begins with http:// or https:// and names a host")
    if "@" in parts.netloc:
        raise ValueError("a server's URL holds no password; its key is read from OPENAI_API_KEY")
    if parts.query or parts.fragment or any(mark.isspace() for mark in url):
        raise ValueError("a server's URL ends with its path, without spaces, ? and #")
    if parts.port == 0:
        raise ValueError("a server's port is a number from 1 to 65535")
    return url


class EngineSettings(Section):
    """The model, its devices, and how it generates."""

    engine: Literal["refill", "transformers", "vllm", "openai", "fake"] = Field(
        "refill",
        description="`refill` runs a Qwen3-VL checkpoint in batches that are refilled while they run, "
        "`transformers` in static ones, `vllm` by vLLM in an environment of its own; `openai` asks servers, "
        "`fake` needs no model.",
    )
    checkpoint: str = Field(
        BUILTIN_CHECKPOINT,
        min_length=1,
        description="Folder or hub id of a Qwen3-VL checkpoint in safetensors; `builtin` is the demo's.",
    )
    adapter: FilePath | None = Field(
        None, description="LoRA adapter folder, merged on load; not by engine `vllm`."
    )
    devices: tuple[Annotated[str, Field(pattern=DEVICE)], ...] = Field(
        ("cpu",),
        strict=False,
        min_length=1,
        description="One worker per entry: `cpu`, `cuda:0`, ...; with engine `vllm` also `cuda:0+1`, a model "
        "split over two.",
    )
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        32, description="Photos under way at once on a device; `auto` is what its free memory has room for."
    )
    max_batch_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Prompt tokens, photos included, under way at once on a device; unset is no limit."
    )
    max_batch_pixels: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Pixels, as the model sees them, under way at once on a device; unset is no limit."
    )
    prefix_reuse: bool = Field(
        True,
        description="Compute the tokens before the photo once per mission; engines `refill` and `vllm`.",
    )
    cuda_graphs: bool = Field(
        True,
        description="Replay steps as CUDA graphs; engines `refill` and `vllm`, on a CUDA device only.",
    )
    packed_weights: bool = Field(
        True,
        description="Lay weights out for oneDNN when they are loaded; on an x86-64 CPU only, not by engine "
        "`vllm`.",
    )
    structured_output: bool = Field(
        False,
        description="Let the model write valid summaries only; needs the extra `grammar`. Engine `fake` has "
        "no use for it.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Weights in memory; auto is float32 on a CPU, bfloat16 on CUDA."
    )
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = Field(
        "sdpa", description="Attention kernel of transformers."
    )
    max_pixels: Annotated[int, Field(ge=1024)] | None = Field(
        None, description="Pixels a photo keeps; unset is 1048576 for bbu and 2097152 for rru missions."
    )
    max_new_tokens: int = Field(1024, ge=1, description="Longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0.0, le=5.0, description="0 decodes greedily; above 0 samples.")
    top_p: float = Field(1.0, gt=0.0, le=1.0, description="Nucleus of sampling; used above temperature 0.")
    repetition_penalty: float = Field(1.05, gt=0.0, le=5.0, description="1.0 is none.")
    seed: int = Field(42, description="Seed of sampling; used above temperature 0.")
    verify_inputs: bool = Field(
        False, description="Record hash, size and image tokens of each shard's first batch, and check them."
    )
    vllm_memory_share: float = Field(
        0.9,
        gt=0.0,
        le=1.0,
        description="Share of a CUDA device's memory that vLLM takes; engine `vllm` only.",
    )
    vllm_max_model_len: Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="Most tokens of a prompt and its answer; unset has room for the largest photo, 4096 "
        "tokens of text and a second try. Engine `vllm` only.",
    )
    vllm_max_batched_tokens: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Most tokens that vLLM computes in a step; unset is its own. Engine `vllm` only."
    )
    vllm_photo_cache_gib: float = Field(
        0.0,
        ge=0.0,
        description="Memory for prepared photos, should they come again; engine `vllm` only.",
    )
    server_urls: tuple[Annotated[str, AfterValidator(_server_url)], ...] = Field(
        ("http://127.0.0.1:8000/v1",),
        strict=False,
        min_length=1,
        description="OpenAI-compatible servers of one model; `/v1` is added where there is no path. Engine "
        "`openai` only.",
    )
    server_model: Annotated[str, Field(pattern=r"\S")] | None = Field(
        None, description="The servers' name for the model; required by engine `openai`."
    )
    server_revision: str = Field(
        "",
        description="Anything that tells the servers' weights from others under the same name; their answers "
        "are kept apart. Engine `openai` only.",
    )
    server_dialect: Literal["vllm", "transformers", "openai"] = Field(
        "vllm",
        description="How they take what OpenAI's schema lacks; `vllm` is SGLang's way too. Engine `openai` "
        "only.",
    )
    server_timeout_seconds: float = Field(
        300.0,
        gt=0,
        allow_inf_nan=False,
        description="The longest that a server may take for one answer; engine `openai` only.",
    )
    server_attempts: int = Field(
        5,
        ge=1,
        description="How often a request is sent that fails for reasons that may pass; engine `openai` only.",
    )
    server_patience_seconds: float = Field(
        120.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a run waits for servers that answer nobody; engine `openai` only.",
    )
    server_min_pixels: Annotated[int, Field(ge=1024)] = Field(
        65_536,
        description="`shortest_edge` of the servers' image processor, so that photos are resized once. "
        "Engine `openai` only.",
    )
    fake_faults: FilePath | None = Field(
        None, description="TOML file with the faults that the fake engine plays; engine `fake` only."
    )

    @model_validator(mode="after")
    def _servers_know_their_model(self) -> EngineSettings:
        if self.engine == "openai" and self.server_model is None:
            raise ValueError("engine 'openai' needs server_model, the servers' name for the model")
        if self.engine == "openai" and len(self.devices) > 1:
            raise ValueError("engine 'openai' uses no devices: name one, and raise batch_size instead")
        return self

    @model_validator(mode="after")
    def _refill_brings_its_own_masks(self) -> EngineSettings:
        if self.engine == "refill" and self.attn_implementation != "sdpa":
            raise ValueError("engine 'refill' needs attn_implementation 'sdpa'; or use engine 'transformers'")
        return self

    @model_validator(mode="after")
    def _vllm_loads_whole_checkpoints(self) -> EngineSettings:
        if self.engine == "vllm" and self.attn_implementation != "sdpa":
            raise ValueError(
                "engine 'vllm' chooses its attention kernel itself; leave attn_implementation out, or use "
                "engine 'transformers'"
            )
        if self.engine == "vllm" and self.adapter is not None:
            raise ValueError(
                "engine 'vllm' takes no adapter: vLLM would leave out what it has for the vision part; merge "
                "it into a checkpoint (PEFT's merge_and_unload, then save_pretrained), or use engine 'refill'"
            )
        return self

    @model_validator(mode="after")
    def _vllm_samples_up_to_two(self) -> EngineSettings:
        if self.engine == "vllm" and self.temperature > 2:
            raise ValueError("engine 'vllm' takes temperatures up to 2")
        return self

    @model_validator(mode="after")
    def _split_models_need_vllm(self) -> EngineSettings:
        split = [device for device in self.devices if "+" in device]
        if split and self.engine != "vllm":
            raise ValueError(f"device {split[0]!r} splits a model, which engine 'vllm' alone can do")
        for device in split:
            parts = device.partition(":")[2].split("+")
            if len(set(parts)) < len(parts):
                raise ValueError(f"device {device!r} names a device twice")
        return self

    @model_validator(mode="after")
    def _devices_share_a_dtype(self) -> EngineSettings:
        if len({self.dtype_on(device) for device in self.devices}) > 1:
            raise ValueError("cpu and cuda devices in one run need an explicit dtype: answers would differ")
        return self

    @property
    def uses_device(self) -> bool:
        """Whether the model runs on the devices, and not on servers."""
        return self.engine != "openai"

    def dtype_on(self, device: str) -> str:
        """The torch dtype's name on that device, `auto` resolved."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if device.startswith("cuda") else "float32"

    def max_pixels_for(self, dataset: Dataset) -> int:
        """The pixel limit of a photo of that dataset."""
        return self.max_pixels or DEFAULT_MAX_PIXELS[dataset]
