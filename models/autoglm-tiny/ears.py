"""The ears of the checkpoint: GLM-ASR's audio tower and projector, in front of the same decoder.

transformers has no model that sees and hears. These are its own modules (`GlmAsrEncoder`,
`GlmAsrMultiModalProjector`) and its own features (`WhisperFeatureExtractor`, with windows of 4 s);
what joins them to `Glm4vForConditionalGeneration` is a hook that puts the audio rows where the ids of
`<|audio|>` stand. The rows take positions like words, one each.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import GlmAsrConfig, WhisperFeatureExtractor
from transformers.models.glmasr.modeling_glmasr import GlmAsrEncoder, GlmAsrMultiModalProjector

from speech import SAMPLE_RATE, WINDOW

# The names of these tensors in the checkpoint start with it.
PREFIX = "model."
TENSORS = f"{PREFIX}audio_tower.", f"{PREFIX}multi_modal_projector."
# Four positions of the encoder become one row of the decoder.
MERGED = 4


def configuration(text_width: int) -> GlmAsrConfig:
    """GLM-ASR's, of which only the audio part and the width of the text are used."""
    return GlmAsrConfig(
        audio_config={
            "model_type": "glmasr_encoder",
            "hidden_size": 96,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            # Two positions of 10 ms frames become one of the encoder.
            "max_position_embeddings": WINDOW // 320,
            "num_mel_bins": 128,
        },
        text_config={"model_type": "llama", "hidden_size": text_width, "num_attention_heads": 4},
    )


def feature_extractor() -> WhisperFeatureExtractor:
    return WhisperFeatureExtractor(feature_size=128, sampling_rate=SAMPLE_RATE, chunk_length=WINDOW // SAMPLE_RATE)


def row_count(frames: torch.Tensor) -> torch.Tensor:
    """How many rows a clip of so many frames gets, as GLM-ASR counts them."""
    for stride in 1, 2:
        frames = (frames + 2 - 2 - 1) // stride + 1
    return (frames - MERGED) // MERGED + 1


class Ears(nn.Module):
    def __init__(self, config: GlmAsrConfig):
        super().__init__()
        # Sums of its own attention are formed in one order; the fused one picks another by size.
        config.audio_config._attn_implementation = "eager"
        self.audio_tower = GlmAsrEncoder(config.audio_config)
        self.multi_modal_projector = GlmAsrMultiModalProjector(config)
        self.merged_width = config.audio_config.intermediate_size
        self.features = feature_extractor()

    def forward(self, clips: list[np.ndarray]) -> list[torch.Tensor]:
        """The rows of each clip of 16-bit samples; none is longer than a window."""
        # The mask has to be asked for here: as a setting of the extractor it counts samples instead of frames.
        heard = self.features(
            [clip.astype(np.float32) / 32768 for clip in clips],
            sampling_rate=SAMPLE_RATE,
            return_attention_mask=True,
            return_tensors="pt",
        )
        states = self.audio_tower(heard["input_features"]).last_hidden_state
        rows = self.multi_modal_projector(states.reshape(len(clips), -1, self.merged_width))
        # The encoder hears the silence that fills the window, the decoder does not.
        counts = row_count(heard["attention_mask"].sum(-1))
        return [rows[index, :count] for index, count in enumerate(counts.tolist())]

    @contextmanager
    def heard_by(self, model, audio_token: int, rows: torch.Tensor):
        """Within it, `model` reads `rows` wherever its input has the id of `<|audio|>`."""

        def replace(module, inputs, embedded):
            places = inputs[0] == audio_token
            # The later steps of a generation bring one new id each, and no audio.
            return embedded.masked_scatter(places[..., None], rows) if places.any() else embedded

        hook = model.get_input_embeddings().register_forward_hook(replace)
        try:
            yield
        finally:
            hook.remove()


def load_ears(directory: Path, text_width: int) -> Ears:
    """From a packed checkpoint, widened to f32."""
    ears = Ears(configuration(text_width))
    weights = load_file(directory / "model.safetensors")
    own = {name: weights[PREFIX + name].float() for name in ears.state_dict()}
    ears.load_state_dict(own)
    return ears.eval()
