"""Write one case as a Hugging Face checkpoint directory, and read it back for evaluation."""

import json
import math
import shutil
from pathlib import Path

import torch
from transformers import (
    Glm4Config,
    Glm4ForCausalLM,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    GlmAsrForConditionalGeneration,
    PreTrainedConfig,
    PreTrainedModel,
)

import audio
import configs
import sounds
import weights
from configs import Case

PARTIAL_ROTARY_FACTOR = 0.5
MAX_POSITIONS = 65536
RMS_NORM_EPS = 1e-5

MARKER_IDS = {
    "image_token_id": configs.IMAGE,
    "image_start_token_id": configs.IMAGE_START,
    "image_end_token_id": configs.IMAGE_END,
    "video_token_id": configs.VIDEO,
    "video_start_token_id": configs.VIDEO_START,
    "video_end_token_id": configs.VIDEO_END,
}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def text_fields(case: Case) -> dict:
    """The decoder's fields that both config generations spell alike."""
    text = case.text
    return {
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "hidden_size": text.hidden,
        "initializer_range": 0.02,
        "intermediate_size": text.intermediate,
        "max_position_embeddings": MAX_POSITIONS,
        "num_attention_heads": text.heads,
        "num_hidden_layers": text.layers,
        "num_key_value_heads": text.kv_heads,
        "pad_token_id": configs.EOS,
        "eos_token_id": list(case.eos_ids),
        "rms_norm_eps": RMS_NORM_EPS,
        "use_cache": True,
        "vocab_size": configs.VOCAB,
    }


def vision_fields(case: Case) -> dict:
    vision = case.vision
    return {
        "attention_bias": False,
        "depth": vision.depth,
        "hidden_act": "silu",
        "hidden_size": vision.hidden,
        "image_size": vision.image_size,
        "in_channels": 3,
        "initializer_range": 0.02,
        "intermediate_size": vision.intermediate,
        "num_heads": vision.heads,
        "out_hidden_size": case.text.hidden,
        "patch_size": 14,
        "rms_norm_eps": RMS_NORM_EPS,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }


def v5_config(case: Case) -> PreTrainedConfig:
    """The config as transformers 5 understands it, whatever generation the directory is written in."""
    rope = {
        "rope_type": "default",
        "rope_theta": case.text.rope_theta,
        "partial_rotary_factor": PARTIAL_ROTARY_FACTOR,
    }
    if case.config == "glm4":
        return Glm4Config(
            **text_fields(case),
            head_dim=case.text.head_dim,
            attention_bias=True,
            rope_parameters=rope,
            tie_word_embeddings=case.text.tied,
        )
    if case.config == "asr":
        # Llama turns whole heads and has no such key.
        del rope["partial_rotary_factor"]
        return audio.asr_config(case, {**text_fields(case), "rope_parameters": rope})
    ears = {"audio_config": audio.tower_fields(case)} if case.config == "ears" else {}
    return (audio.EarsConfig if ears else Glm4vConfig)(
        text_config={
            **text_fields(case),
            "rope_parameters": {**rope, "mrope_section": list(case.text.mrope_section)},
        },
        vision_config=vision_fields(case),
        tie_word_embeddings=case.text.tied,
        **MARKER_IDS,
        **ears,
    )


def legacy_config(case: Case) -> dict:
    """config.json as it was written before transformers 5.

    The converter of July 2025 put the decoder's fields at the top level and knew no `text_config`
    ("flat"); the transformers of that summer added one on saving and kept the flat fields
    ("flat-and-nested"). GLM-4-9B-0414 is text only. None of the glm4v files has `head_dim`.
    """
    old = text_fields(case) | {
        "attention_bias": True,
        "partial_rotary_factor": PARTIAL_ROTARY_FACTOR,
        "rope_theta": case.text.rope_theta,
        "tie_word_embeddings": case.text.tied,
        "torch_dtype": case.dtype,
    }
    if case.config == "glm4":
        return {
            "architectures": ["Glm4ForCausalLM"],
            "model_type": "glm4",
            "head_dim": case.text.head_dim,
            **old,
            "transformers_version": "4.52.0.dev0",
        }
    section = list(case.text.mrope_section)
    vision = {**vision_fields(case), "hidden_dropout_prob": 0.0}
    del vision["in_channels"]  # the old files leave it to the default of 3
    config = {"architectures": ["Glm4vForConditionalGeneration"], "model_type": "glm4v", **old, **MARKER_IDS}
    if case.config == "flat":
        config["rope_scaling"] = {"type": "default", "mrope_section": section}
        config["vision_config"] = vision
    else:
        config["rope_scaling"] = {"type": "default", "rope_type": "default", "mrope_section": section}
        config["text_config"] = {
            **old,
            "model_type": "glm4v_text",
            "rope_scaling": {"type": "default", "rope_type": "default", "mrope_section": section},
        }
        config["vision_config"] = {**vision, "model_type": "glm4v"}
    config["transformers_version"] = "4.53.0.dev0"
    return config


def preprocessor_config(case: Case) -> dict:
    return {
        "size": {
            "shortest_edge": case.vision.shortest_edge,
            "longest_edge": case.vision.longest_edge,
        },
        "do_rescale": True,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "image_processor_type": "Glm4vImageProcessor",
        "processor_class": "Glm4vProcessor",
    }


def model_class(case: Case) -> type[PreTrainedModel]:
    special = {"glm4": Glm4ForCausalLM, "asr": GlmAsrForConditionalGeneration, "ears": audio.Ears}
    return special.get(case.config, Glm4vForConditionalGeneration)


def write(case: Case, directory: Path) -> None:
    """Write the checkpoint, the pictures, the sounds and the request; whatever lay there before goes."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(parents=True)

    model = model_class(case)(v5_config(case))
    weights.fill(model, case)
    model.to(getattr(torch, case.dtype))
    total = sum(p.numel() * p.element_size() for p in model.parameters())
    # Shards are filled greedily, so a little slack above a third gives three of them.
    shard = math.ceil(total / case.shards * 1.1) if case.shards > 1 else 2 * total
    legacy = case.audio is None or case.audio.legacy_names
    model.save_pretrained(directory, max_shard_size=shard, save_original_format=legacy)
    found = len(list(directory.glob("*.safetensors")))
    if found != case.shards:
        raise ValueError(f"{case.name}: {found} shards instead of {case.shards}")

    if case.config in ("flat", "flat-and-nested", "glm4"):
        write_json(directory / "config.json", legacy_config(case))
    if case.config == "ears":
        config = json.loads((directory / "config.json").read_text())
        write_json(directory / "config.json", config | {"architectures": ["Glm4vForConditionalGeneration"]})
    # do_sample is what GLM-4.1V ships; a request for greedy ids must not be swayed by it.
    write_json(
        directory / "generation_config.json",
        {"do_sample": True, "eos_token_id": list(case.eos_ids), "pad_token_id": configs.EOS},
    )
    if case.vision is not None:
        write_json(directory / "preprocessor_config.json", preprocessor_config(case))
    if case.audio is not None:
        audio.write_processor(case, directory)
    for picture in case.pictures:
        picture.paint().save(directory / picture.file, optimize=True)
    for sound in case.sounds:
        sounds.write(directory / sound.file, sound.play())
    request = {"input_ids": case.prompt()}
    if case.pictures:
        request["images"] = [picture.file for picture in case.pictures]
    if case.sounds:
        request["audio"] = [sound.file for sound in case.sounds]
    request["greedy"] = configs.GREEDY
    (directory / "request.json").write_text(json.dumps(request) + "\n")


def read(case: Case, directory: Path, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model as the files hold it, widened to `dtype`, with plain attention."""
    # transformers 5 wants a `text_config` and takes a flat file for a 9B model of default shape.
    config = {"config": v5_config(case)} if case.config == "flat" else {}
    model, info = model_class(case).from_pretrained(
        directory, dtype=dtype, attn_implementation="eager", output_loading_info=True, **config
    )
    problems = {key: value for key, value in info.items() if value}
    if problems:
        raise ValueError(f"{case.name}: {problems}")
    return model.eval()
