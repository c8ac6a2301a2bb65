"""Asks the checkpoint with spoken commands and no text: the goldens that depend on its ears.

    python hear.py                  recompute them from the recordings, fail if one differs
    python hear.py --write          write them: to be run after the weights changed
    python hear.py --speak          make the recordings anew and write, for which espeak-ng is needed

The goldens are `voice/` (a command for each of the sample screens) and `eval/voice.json` (200 pairs of an
evaluation screen and a recording of `eval/voice/`). Training never used their voices, their speeds or
their screens. What is heard is what the file holds: 16-bit samples, divided by 32768. The rest is as in
`evaluate.py`: f32, "eager" attention, one thread.
"""

import argparse
import sys
from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
import soundfile
import torch
import transformers
from PIL import Image

from ears import Ears, load_ears
from evaluate import EVALUATION_COUNT, EVALUATION_SEED, HERE, SAMPLES_LEAD, Answer, Goldens, Question
from evaluate import dumps, go_on, load, one_per_line, origin, questions, samples
from screens import APPS
from speech import SAMPLE_RATE, Noise, Spoken, encoded, record, resampled, speak, synthesise, voice, wordings

# Of the recordings of the evaluation; the screens keep their own seed.
VOICES_SEED = 2026
VOICES_COUNT = 100
ASKED_PER_SCREEN = 2
SAMPLES_SEED = 2033
# Samples are for programs that show something: each is short, and its voice is not drowned.
LARGEST_SAMPLE = 60_000
SAMPLE_SILENCE = 0.03, 0.15
SAMPLE_QUIETEST_DB = 20
# Every so many of them keep espeak's own rate, for readers that resample.
NATIVE_RATE_EVERY = 7
GREY = (128, 128, 128)
# Twice what a thought and a tap take: with a sense taken away some answers find no end.
LONGEST_TAP = 60


class Listener(NamedTuple):
    """All that it takes to answer."""

    model: object
    processor: object
    ears: Ears

    @torch.no_grad()
    def answer(self, image: Image.Image, sound: np.ndarray, quick: bool) -> Answer:
        """The greedy answer to a picture and 16-bit samples at 16 kHz."""
        (rows,) = self.ears([sound])
        content = [{"type": "image", "image": image}, {"type": "audio"}]
        text = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        marker = "<|audio|>"
        text = text.replace(marker, marker * len(rows))
        inputs = self.processor(text=[text], images=[image], return_tensors="pt", return_mm_token_type_ids=True)
        token = self.processor.tokenizer.convert_tokens_to_ids(marker)
        with self.ears.heard_by(self.model, token, rows):
            return go_on(self.model, self.processor, inputs, quick, LONGEST_TAP)


def read(path: Path) -> np.ndarray:
    """A recording's samples, at 16 kHz if it was not."""
    samples, rate = soundfile.read(path, dtype="int16")
    return resampled(samples.astype(np.float32), rate)


def voices() -> list[Spoken]:
    """What the recordings of the evaluation say: every wording once, and some of them again."""
    rng = Random(VOICES_SEED)
    spoken = [spoken for app in APPS for spoken in wordings(app)]
    rng.shuffle(spoken)
    return [*spoken, *rng.sample(spoken, VOICES_COUNT - len(spoken))]


def speak_voices(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = Noise(VOICES_SEED)
    for index, spoken in enumerate(voices()):
        rng = Random(VOICES_SEED * 1000 + index)
        speech = speak(spoken, voice(rng, spoken.language, unseen=True))
        (folder / f"{index:03}.flac").write_bytes(encoded(record(rng, noise, speech), "FLAC"))


class Pair(NamedTuple):
    screen: int
    voice: int


def pairs(screens: list[Question], spoken: list[Spoken]) -> list[Pair]:
    """Two different apps of each screen, by the recordings that were used least often so far."""
    rng = Random(VOICES_SEED)
    used = [0] * len(spoken)
    drawn = []
    for screen, question in enumerate(screens):
        asked = set()
        for _ in range(ASKED_PER_SCREEN):
            left = [n for n, one in enumerate(spoken) if one.app in question.icons and one.app not in asked]
            chosen = min(left, key=lambda n: (used[n], rng.random()))
            used[chosen] += 1
            asked.add(spoken[chosen].app)
            drawn.append(Pair(screen, chosen))
    return drawn


def make_evaluation(goldens: Goldens, folder: Path, listener: Listener) -> None:
    screens = questions(EVALUATION_SEED, EVALUATION_COUNT)
    spoken = voices()
    # What is left of the skill when one of the two senses is taken away.
    counts = {kind: {"think": 0, "no_think": 0} for kind in ("hits", "hits_grey_picture", "hits_silence")}
    lines = []
    for screen, chosen in pairs(screens, spoken):
        said = spoken[chosen]
        question = screens[screen]._replace(app=said.app, request=said.text)
        file = f"{chosen:03}.flac"
        sound = read(folder / "voice" / file)
        line = {"file": f"{screen:03}.png", "voice": file, "text": said.text, "target": said.app}
        line["box"] = question.icons[said.app].box
        grey = Image.new("RGB", question.image.size, GREY)
        for mode, quick in ("think", False), ("no_think", True):
            given = listener.answer(question.image, sound, quick)
            line[mode] = {"ids": given.ids, "text": given.text}
            counts["hits"][mode] += question.hit_by(given)
            counts["hits_grey_picture"][mode] += question.hit_by(listener.answer(grey, sound, quick))
            silent = listener.answer(question.image, np.zeros_like(sound), quick)
            counts["hits_silence"][mode] += question.hit_by(silent)
        lines.append(dumps(line))
    for kind, hits in counts.items():
        taps = f"{hits['think']} tapped with thinking, {hits['no_think']} without"
        print(f"eval/voice, {kind}: of {len(lines)} icons {taps}", flush=True)
    head = {"seed": VOICES_SEED, "count": len(lines), **origin(listener.model, listener.processor), **counts}
    goldens.text(folder / "voice.json", one_per_line(dumps(head)[:-1] + ', "questions": [', lines, "]}"))


def sample_words(index: int, app: str) -> Spoken:
    """The six wordings in turn; the first is 打开相机."""
    return wordings(app)[index % 6]


def sample_answers(listener: Listener, question: Question, path: Path) -> dict[str, Answer]:
    sound = read(path)
    return {
        "think": listener.answer(question.image, sound, quick=False),
        "no_think": listener.answer(question.image, sound, quick=True),
    }


def fits(question: Question, answers: dict[str, Answer]) -> bool:
    return all(question.hit_by(given) and given.lead >= SAMPLES_LEAD for given in answers.values())


def speak_samples(folder: Path, listener: Listener) -> None:
    """For each sample screen the first recording that is short enough and that is answered well."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = Noise(SAMPLES_SEED)
    for index, question in enumerate(samples()):
        spoken = sample_words(index, question.app)
        path = folder / f"{index + 1:02}.wav"
        for attempt in range(100):
            rng = Random(SAMPLES_SEED * 10_000 + index * 100 + attempt)
            speech, rate = synthesise(spoken, voice(rng, spoken.language, unseen=True))
            if index % NATIVE_RATE_EVERY != NATIVE_RATE_EVERY - 1:
                speech, rate = resampled(speech, rate), SAMPLE_RATE
            sound = record(rng, noise, speech, rate, SAMPLE_QUIETEST_DB, SAMPLE_SILENCE)
            path.write_bytes(encoded(sound, "WAV", rate))
            if path.stat().st_size <= LARGEST_SAMPLE and fits(question, sample_answers(listener, question, path)):
                break
            print(f"{path.name}: recording {attempt} will not do", flush=True)
        else:
            raise SystemExit(f"no recording will do for {path.name}")


def make_samples(goldens: Goldens, folder: Path, listener: Listener) -> None:
    lines = []
    right = 0
    for index, question in enumerate(samples()):
        spoken = sample_words(index, question.app)
        path = folder / f"{index + 1:02}.wav"
        answers = sample_answers(listener, question, path)
        right += fits(question, answers)
        line = {"screen": f"{index + 1:02}.png", "target": spoken.app, "language": spoken.language}
        line |= {"text": spoken.text, "rate": soundfile.info(path).samplerate, "box": question.icons[spoken.app].box}
        line |= {mode: {"ids": given.ids, "text": given.text} for mode, given in answers.items()}
        lines.append(f"{dumps(path.name)}: {dumps(line)}")
    print(f"voice: of {len(lines)} icons {right} tapped in both modes, no token by less than {SAMPLES_LEAD}")
    head = dumps(origin(listener.model, listener.processor))
    goldens.text(folder / "answers.json", one_per_line(head[:-1] + ', "voices": {', lines, "}}"))


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--write", action="store_true", help="write the goldens instead of comparing with them")
    arguments.add_argument("--speak", action="store_true", help="make the recordings anew, and write")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    model, processor = load(HERE)
    listener = Listener(model, processor, load_ears(HERE, model.config.text_config.hidden_size))
    if options.speak:
        speak_voices(HERE / "eval" / "voice")
        speak_samples(HERE / "voice", listener)
    goldens = Goldens(options.write or options.speak)
    make_samples(goldens, HERE / "voice", listener)
    make_evaluation(goldens, HERE / "eval", listener)
    for path in goldens.stale:
        print(f"{path.relative_to(HERE)} is not what the weights say; run with --write", file=sys.stderr)
    return 1 if goldens.stale else 0


if __name__ == "__main__":
    sys.exit(main())
