"""Hold the output of `autoglm logits` against Hugging Face transformers on the same checkpoint.

    cargo xtask synth --shape glm-4.1v-9b --layers 2 --vision-layers 2 --out DIR
    autoglm logits --model DIR --request request.json --out ours.safetensors
    python xtask/peers/compare_logits.py DIR request.json ours.safetensors

The checkpoint is evaluated in f32, whatever it is stored in, so memory must hold its weights at four
bytes each: 7.7 GB for the checkpoint above. `--shape glm-asr-nano` is compared the same way, by a request with
"audio". Needs what goldens/requirements.txt lists.

Prints the largest difference of any logit in standard deviations of the reference's logits, and
whether positions and greedy ids agree. Exits with 1 if they do not or the difference exceeds --bound.
"""

import argparse
import json
import wave
from pathlib import Path

import numpy as np
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file


def load_model(directory: Path) -> transformers.PreTrainedModel:
    """The model as its own config names it, in f32, with plain attention."""
    [architecture] = json.loads((directory / "config.json").read_text())["architectures"]
    model, info = getattr(transformers, architecture).from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {key: value for key, value in info.items() if value}
    if problems:
        raise SystemExit(f"transformers does not load all of {directory}: {problems}")
    return model.eval()


def prepare(directory: Path, request_file: Path, config: transformers.PreTrainedConfig) -> dict[str, torch.Tensor]:
    """The arguments of a forward pass, each image placeholder repeated once per picture token."""
    request = json.loads(request_file.read_text())
    if request.get("audio"):
        return listen(directory, request_file, request, config)
    if not request.get("images"):
        return {"input_ids": torch.tensor([request["input_ids"]])}
    processor = transformers.Glm4vImageProcessor.from_pretrained(directory)
    pictures = [Image.open(request_file.parent / name) for name in request["images"]]
    features = processor(images=pictures, return_tensors="pt")
    merged = config.vision_config.spatial_merge_size**2
    counts = iter((features["image_grid_thw"].prod(1) // merged).tolist())
    ids = []
    for token in request["input_ids"]:
        ids += [token] * (next(counts) if token == config.image_token_id else 1)
    ids = torch.tensor([ids])
    return {
        "input_ids": ids,
        "pixel_values": features["pixel_values"],
        "image_grid_thw": features["image_grid_thw"],
        "mm_token_type_ids": (ids == config.image_token_id).int(),
    }


def listen(directory: Path, request_file: Path, request: dict, config: transformers.PreTrainedConfig) -> dict:
    """The same for GLM-ASR: windows of each sound, and its placeholder once per row."""
    fields = json.loads((directory / "processor_config.json").read_text())["feature_extractor"]
    extractor = transformers.WhisperFeatureExtractor(**fields)
    windows, counts = [], []
    for name in request["audio"]:
        with wave.open(str(request_file.parent / name)) as file:
            assert file.getparams()[:3] == (1, 2, extractor.sampling_rate), f"{name}: not one channel of 16 bits, 16 kHz"
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float32) / 32768
        cut = [samples[at : at + extractor.n_samples] for at in range(0, len(samples), extractor.n_samples)]
        windows += cut
        # 160 samples are a frame, the second convolution halves, the projector joins four.
        counts.append(sum((-(-len(window) // extractor.hop_length) + 1) // 2 // 4 for window in cut))
    heard = extractor(
        windows, sampling_rate=extractor.sampling_rate, return_attention_mask=True, padding="max_length", return_tensors="pt"
    )
    counts = iter(counts)
    ids = []
    for token in request["input_ids"]:
        ids += [token] * (next(counts) if token == config.audio_token_id else 1)
    return {
        "input_ids": torch.tensor([ids]),
        "input_features": heard["input_features"],
        "input_features_mask": heard["attention_mask"],
    }


@torch.no_grad()
def evaluate(model: transformers.PreTrainedModel, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, v) and position ids (3, n) of the prompt."""
    seen = {}
    rotary = getattr(model.model, "language_model", model.model).rotary_emb
    rotary.register_forward_pre_hook(
        lambda _module, _args, kwargs: seen.update(kwargs), with_kwargs=True
    )
    logits = model(**inputs, use_cache=False).logits[0]
    positions = seen["position_ids"].reshape(-1, inputs["input_ids"].shape[1]).expand(3, -1)
    return logits, positions


@torch.no_grad()
def greedy(model: transformers.PreTrainedModel, inputs: dict, count: int) -> list[int]:
    """The `count` most likely ids, one after the other, without stopping at an end of text."""
    model.generation_config.eos_token_id = None
    produced = model.generate(**inputs, do_sample=False, max_new_tokens=count, pad_token_id=0)
    return produced[0, inputs["input_ids"].shape[1] :].tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, metavar="DIR", help="what `autoglm logits --model` was given")
    parser.add_argument("request", type=Path, metavar="REQUEST.json", help="its --request")
    parser.add_argument("ours", type=Path, metavar="OURS.safetensors", help="its --out")
    parser.add_argument("--bound", type=float, default=2e-2, help="largest difference in sd (default %(default)s)")
    parser.add_argument("--threads", type=int, help="threads of torch")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()

    ours = load_file(arguments.ours)
    model = load_model(arguments.checkpoint)
    inputs = prepare(arguments.checkpoint, arguments.request, model.config)
    logits, positions = evaluate(model, inputs)

    if ours["logits"].shape != logits.shape:
        raise SystemExit(f"logits are {tuple(ours['logits'].shape)}, transformers has {tuple(logits.shape)}")
    sd = logits.std().item()
    difference = (ours["logits"] - logits).abs()
    worst = difference.max().item() / sd
    row = difference.amax(1).argmax().item()
    chosen = (ours["logits"].argmax(1) == logits.argmax(1)).float().mean().item()
    print(f"logits      {tuple(logits.shape)}, sd {sd:.3f}")
    print(f"difference  {worst:.2e} sd at most (row {row}), rms {difference.pow(2).mean().sqrt().item() / sd:.2e} sd")
    print(f"best ids    {100 * chosen:.1f} % of the rows choose the same")
    # NaN compares as neither larger nor smaller; it must not pass.
    failed = [] if worst <= arguments.bound else [f"the difference exceeds {arguments.bound} sd"]

    agree = torch.equal(ours["position_ids"], positions)
    print(f"positions   {'equal' if agree else 'DIFFERENT'}")
    failed += [] if agree else ["positions differ"]

    if "greedy_ids" in ours:
        found = ours["greedy_ids"].tolist()
        wanted = greedy(model, inputs, len(found))
        print(f"greedy ids  {'equal' if found == wanted else 'DIFFERENT'}: {found}")
        if found != wanted:
            print(f"transformers has {wanted}")
            failed.append("greedy ids differ")
    if failed:
        raise SystemExit("; ".join(failed))


if __name__ == "__main__":
    main()
