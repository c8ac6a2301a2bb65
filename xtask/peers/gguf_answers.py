"""Hold llama.cpp's greedy tokens on a GGUF file of the tiny checkpoint against ours on what it was made of.

    cargo xtask export --model models/autoglm-tiny --out GGUF --format gguf --precision f16
    python xtask/peers/gguf_answers.py GGUF/model-f16.gguf models/autoglm-tiny --autoglm target/release/autoglm
    python xtask/peers/gguf_answers.py GGUF/model-f16.gguf models/autoglm-tiny --mmproj GGUF/mmproj-f16.gguf

Both are given the same ids: llama.cpp's own tokenizer has the pattern of GLM-4, not the tiny vocabulary's, so it may cut a
text otherwise. Without --mmproj the questions of `models/autoglm-tiny/eval` are asked without their screens, every other
one with the ids that make the model answer at once; with it they are asked with their screens, to answer at once. Keys and
values are f32 on both sides. Prints for how many prompts all tokens are the same, how many of the tokens are before the
first that differs, and how many texts llama.cpp would cut into the same ids. Needs what goldens/requirements.txt lists,
and `pip install llama-cpp-python` (0.3.36).
"""

import argparse
import ctypes
import json
import subprocess
import tempfile
from pathlib import Path

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp
from safetensors.numpy import load_file
from transformers import AutoTokenizer

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "models" / "autoglm-tiny"
# <think></think>\n<answer>
AT_ONCE = [656, 657, 198, 658]
PICTURE = "<|begin_of_image|><|image|><|end_of_image|>"
F32 = 0


def ours(arguments: argparse.Namespace, ids: list[int], image: Path | None) -> list[int]:
    with tempfile.TemporaryDirectory() as folder:
        request, out = Path(folder) / "request.json", Path(folder) / "out.safetensors"
        images = [str(image.resolve())] if image else []
        request.write_text(json.dumps({"input_ids": ids, "images": images, "greedy": arguments.tokens}))
        command = [arguments.autoglm, "logits", "--model", arguments.dense, "--request", request, "--out", out]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
        return load_file(out)["greedy_ids"].tolist()


class Peer:
    """A model of llama.cpp that is fed ids and pictures."""

    def __init__(self, model: Path, mmproj: Path | None):
        self.llama = llama_cpp.Llama(
            str(model), n_ctx=1024, n_batch=1024, type_k=F32, type_v=F32, flash_attn=False, logits_all=True, verbose=False
        )
        self.eyes = None
        if mmproj:
            # It talks a lot; the callback must live as long as the library.
            self.silence = llama_cpp.llama_log_callback(lambda *_: None)
            mtmd_cpp.mtmd_log_set(self.silence, None)
            mtmd_cpp.mtmd_helper_log_set(self.silence, None)
            parameters = mtmd_cpp.mtmd_context_params_default()
            parameters.use_gpu, parameters.print_timings, parameters.warmup = False, False, False
            self.eyes = mtmd_cpp.mtmd_init_from_file(str(mmproj).encode(), self.llama._model.model, parameters)
            if self.eyes is None:
                raise SystemExit(f"llama.cpp does not load {mmproj}")

    def greedy(self, before: list[int], image: Path | None, after: list[int], count: int) -> list[int]:
        context = self.llama._ctx.ctx
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        position = self.feed(before, 0)
        if image:
            position = self.look(image, position)
        produced = []
        position = self.feed(after, position)
        while True:
            logits = llama_cpp.llama_get_logits_ith(context, -1)
            produced.append(int(np.ctypeslib.as_array(logits, shape=(self.llama.n_vocab(),)).argmax()))
            if len(produced) == count:
                return produced
            position = self.feed(produced[-1:], position)

    def feed(self, ids: list[int], position: int) -> int:
        """Evaluates ids from `position` on and gives the position after them; logits are of the last."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for at, token in enumerate(ids):
            batch.token[at], batch.pos[at], batch.n_seq_id[at] = token, position + at, 1
            batch.seq_id[at][0], batch.logits[at] = 0, at == len(ids) - 1
        failed = llama_cpp.llama_decode(self.llama._ctx.ctx, batch)
        llama_cpp.llama_batch_free(batch)
        if failed:
            raise SystemExit(f"llama_decode: {failed}")
        return position + len(ids)

    def look(self, image: Path, position: int) -> int:
        """Evaluates a picture between its markers, which llama.cpp puts there itself."""
        bitmap = mtmd_cpp.mtmd_helper_bitmap_init_from_file(
            self.eyes, str(image).encode(), False, mtmd_cpp.mtmd_helper_init_opt_default()
        )
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        marker = mtmd_cpp.mtmd_get_marker(self.eyes)
        text = mtmd_cpp.mtmd_input_text(marker, len(marker), False, True)
        bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
        after = llama_cpp.llama_pos(0)
        failed = mtmd_cpp.mtmd_tokenize(self.eyes, chunks, ctypes.byref(text), bitmaps, 1)
        failed = failed or mtmd_cpp.mtmd_helper_eval_chunks(
            self.eyes, self.llama._ctx.ctx, chunks, position, 0, 1024, True, ctypes.byref(after)
        )
        mtmd_cpp.mtmd_input_chunks_free(chunks)
        mtmd_cpp.mtmd_bitmap_free(bitmap)
        if failed:
            raise SystemExit(f"mtmd: {failed}")
        return after.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.gguf")
    parser.add_argument("dense", type=Path, metavar="DENSE", help="the checkpoint it was made of")
    parser.add_argument("--mmproj", type=Path, metavar="MMPROJ.gguf", help="ask with pictures")
    parser.add_argument("--autoglm", type=Path, default=ROOT / "target" / "release" / "autoglm")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=16)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.dense)
    peer = Peer(arguments.model, arguments.mmproj)

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    same, equal, cut = 0, 0, 0
    asked = json.loads((TINY / "eval" / "eval.json").read_text())["screens"][: arguments.count]
    for number, screen in enumerate(asked):
        image = TINY / "eval" / screen["file"] if arguments.mmproj else None
        head, tail = "[gMASK]<sop><|user|>\n", f"{screen['prompt']}<|assistant|>\n"
        at_once = AT_ONCE if image or number % 2 else []
        # Cut before the picture or the question, which markers part from what is around them anyway.
        before, after = encode(head), encode(tail) + at_once
        cut += peer.llama.tokenize(tail.encode(), add_bos=False, special=True) == encode(tail)
        wanted = ours(arguments, before + (encode(PICTURE) if image else []) + after, image)
        found = peer.greedy(before, image, after, arguments.tokens)
        agree = next((at for at, (a, b) in enumerate(zip(found, wanted)) if a != b), len(wanted))
        same, equal = same + (agree == len(wanted)), equal + agree
        if agree < len(wanted):
            print(f"{screen['prompt']}: {tokenizer.decode(found)!r}, ours {tokenizer.decode(wanted)!r}")
    total = len(asked) * arguments.tokens
    print(
        f"{same} of {len(asked)} prompts have the same {arguments.tokens} tokens, {equal} of {total} tokens agree up to the"
        f" first that differs, {cut} texts are cut alike"
    )


if __name__ == "__main__":
    main()
