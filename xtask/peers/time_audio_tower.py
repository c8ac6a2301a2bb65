"""How long PyTorch takes for 30 seconds of sound: `python time_audio_tower.py [--threads 2] [--layers 32] [--runs 5]`.

The encoder and the adapter of GLM-ASR-Nano with random weights, as transformers computes them, in f32 and in bf16,
with its fastest attention (sdpa). Prints one JSON object of median seconds; `--dtypes f32` leaves bf16 out, which
takes minutes where the processor has no instructions for it. Run it beside
`autoglm bench --shape glm-asr-nano --layers 1 --audio 30 --prompt 512 --threads 2 --json`, one after the
other on a quiet machine.
"""

import argparse
import json
import os
import statistics
import time

import torch
from transformers import GlmAsrConfig
from transformers.models.glmasr.modeling_glmasr import GlmAsrEncoder, GlmAsrMultiModalProjector

FRAMES = 3000
BANDS = 128
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


@torch.no_grad()
def seconds(layers: int, dtype: torch.dtype, runs: int) -> float:
    config = GlmAsrConfig(audio_config={"num_hidden_layers": layers})
    config.audio_config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    encoder = GlmAsrEncoder(config.audio_config).to(dtype).eval()
    adapter = GlmAsrMultiModalProjector(config).to(dtype).eval()
    frames = torch.randn(1, BANDS, FRAMES, dtype=dtype)

    def once() -> float:
        start = time.perf_counter()
        rows = encoder(frames).last_hidden_state
        adapter(rows.reshape(1, -1, config.audio_config.intermediate_size))
        return time.perf_counter() - start

    once()  # The first run allocates and chooses kernels.
    return statistics.median(once() for _ in range(runs))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--layers", type=int, default=32)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--dtypes", nargs="+", choices=DTYPES, default=list(DTYPES))
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    times = {f"{name}_s": seconds(options.layers, DTYPES[name], options.runs) for name in options.dtypes}
    print(json.dumps({"torch": torch.__version__, "threads": options.threads, "layers": options.layers} | times))


if __name__ == "__main__":
    main()
