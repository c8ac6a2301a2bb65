"""The audio front end of a case: its configuration, its files, and how transformers hears a file.

A checkpoint hears either as GLM-ASR does, or as `glm4v` with the same tower and projector beside its
eyes. transformers knows no such model, so `Ears` puts one together from its parts.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import (
    AutoModel,
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    GlmAsrConfig,
    GlmAsrEncoderConfig,
    GlmAsrModel,
    GlmAsrProcessor,
    PreTrainedTokenizerFast,
    WhisperFeatureExtractor,
)
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.models.glm4v.modeling_glm4v import Glm4vModel
from transformers.models.glmasr.modeling_glmasr import GlmAsrMultiModalProjector

import configs
import sounds
from configs import Case

MELS = 128
STACKED = 4  # frames that become one token


def tower_fields(case: Case) -> dict:
    audio = case.audio
    return {
        "model_type": "glmasr_encoder",
        "attention_dropout": 0.0,
        "hidden_act": "gelu",
        "hidden_size": audio.hidden,
        "initializer_range": 0.02,
        "intermediate_size": STACKED * audio.hidden,
        "max_position_embeddings": 50 * audio.chunk,
        "num_attention_heads": audio.heads,
        "num_hidden_layers": audio.layers,
        "num_key_value_heads": audio.heads,
        "num_mel_bins": MELS,
        "rope_parameters": {"partial_rotary_factor": 0.5, "rope_theta": 10_000.0, "rope_type": "default"},
    }


def asr_config(case: Case, text: dict) -> GlmAsrConfig:
    return GlmAsrConfig(
        audio_config=tower_fields(case),
        text_config={**text, "model_type": "llama", "bos_token_id": None},
        audio_token_id=configs.AUDIO,
        tie_word_embeddings=case.text.tied,
    )


class EarsConfig(Glm4vConfig):
    """`glm4v` with the three fields that a checkpoint with ears has on top."""

    sub_configs_defaults = {**Glm4vConfig.sub_configs_defaults, "audio_config": GlmAsrEncoderConfig}

    audio_config: dict | GlmAsrEncoderConfig | None = None
    audio_token_id: int = configs.AUDIO
    audio_start_token_id: int = configs.AUDIO_START
    audio_end_token_id: int = configs.AUDIO_END
    projector_hidden_act = "gelu"  # no field: GLM-ASR's default is not written


class EarsModel(Glm4vModel):
    config: EarsConfig

    def __init__(self, config: EarsConfig) -> None:
        super().__init__(config)
        self.audio_tower = AutoModel.from_config(config.audio_config)
        self.multi_modal_projector = GlmAsrMultiModalProjector(config)
        self.post_init()

    # Windows go through tower and projector, and padding goes, exactly as in GLM-ASR.
    get_audio_features = GlmAsrModel.get_audio_features

    def forward(
        self,
        input_ids: torch.Tensor,
        input_features: torch.Tensor | None = None,
        input_features_mask: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
        mm_token_type_ids: torch.Tensor | None = None,
        mm_encoder_outputs: dict | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values=None,
        attention_mask: torch.Tensor | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Glm4vModel's forward, with one more kind of rows to put in place.

        Audio keeps token type 0 in `mm_token_type_ids`, hence the positions of text.
        """
        embeds = self.get_input_embeddings()(input_ids)
        # `generate` has already asked the eyes, and hands over what they saw.
        seen = (mm_encoder_outputs or {}).get("image")
        if pixel_values is not None:
            seen = self.get_image_features(pixel_values, image_grid_thw, return_dict=True)
        if seen is not None:
            embeds = self.scatter(embeds, input_ids == configs.IMAGE, torch.cat(seen.pooler_output))
        if input_features is not None:
            rows = self.get_audio_features(input_features, input_features_mask, return_dict=True).pooler_output
            embeds = self.scatter(embeds, input_ids == configs.AUDIO, rows)
        if position_ids is None:
            position_ids = self.compute_3d_position_ids(
                input_ids=input_ids,
                image_grid_thw=image_grid_thw,
                inputs_embeds=embeds,
                attention_mask=attention_mask,
                past_key_values=past_key_values,
                mm_token_type_ids=mm_token_type_ids,
            )
        # The inherited callers also pass on videos and the like, which no case has.
        kwargs = {key: value for key, value in kwargs.items() if value is not None}
        return self.language_model(
            input_ids=None,
            inputs_embeds=embeds,
            position_ids=position_ids,
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            **kwargs,
        )

    @staticmethod
    def scatter(embeds: torch.Tensor, places: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        assert places.sum() == len(rows), f"{places.sum()} placeholders for {len(rows)} rows"
        return embeds.masked_scatter(places.unsqueeze(-1), rows.to(embeds.dtype))


class Ears(Glm4vForConditionalGeneration):
    config: EarsConfig

    def __init__(self, config: EarsConfig) -> None:
        super().__init__(config)
        self.model = EarsModel(config)
        self.post_init()

    def _validate_model_kwargs(self, model_kwargs: dict) -> None:
        """`generate` would refuse input_features, which the inherited forward does pass on."""


def extractor(directory: Path) -> WhisperFeatureExtractor:
    """The feature extractor as a checkpoint's files describe it."""
    path = directory / "processor_config.json"
    if path.exists():
        return WhisperFeatureExtractor.from_dict(json.loads(path.read_text())["feature_extractor"])
    return WhisperFeatureExtractor.from_pretrained(directory)


@dataclass
class Heard:
    """One file after the processor: windows (w, 128, frames), their masks (w, frames), its tokens."""

    features: torch.Tensor
    mask: torch.Tensor
    tokens: int

    def rows(self) -> list[int]:
        """The tokens of each window, by the rule of GlmAsrModel.get_audio_features."""
        frames = (self.mask.sum(-1) + 1) // 2  # what the second convolution's stride leaves
        rows = ((frames - STACKED) // STACKED + 1).tolist()
        assert sum(rows) == self.tokens
        return rows


def hear(samples: np.ndarray, extractor: WhisperFeatureExtractor) -> Heard:
    """Ask GLM-ASR's processor, round a tokenizer of one word: what it makes of text is not asked."""
    words = Tokenizer(models.WordLevel({"<|pad|>": 0}, unk_token="<|pad|>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<|pad|>")
    processor = GlmAsrProcessor(extractor, tokenizer)
    out = processor(text=["<|pad|>"], audio=[samples], sampling_rate=sounds.RATE)
    return Heard(out["input_features"], out["input_features_mask"], out["input_ids"].shape[1])


def write_processor(case: Case, directory: Path) -> None:
    """The feature extractor's settings, in the file that this case's generation has them in."""
    extractor = WhisperFeatureExtractor(feature_size=MELS, chunk_length=case.audio.chunk)
    if case.audio.file == "preprocessor_config.json":
        extractor.save_pretrained(directory)
        return
    settings = {"feature_extractor": json.loads(extractor.to_json_string())}
    if case.config == "asr":  # what GlmAsrProcessor.save_pretrained writes beside them
        settings |= {
            "audio_token": "<|pad|>",
            "default_transcription_prompt": "Please transcribe this audio into text",
            "max_audio_len": 655,
            "processor_class": "GlmAsrProcessor",
        }
    text = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    (directory / case.audio.file).write_text(text)
