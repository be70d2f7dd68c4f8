"""Nodes that fail, take their time, keep a book or use a GPU, for tests; no model, no package.

ComfyUI runs it, never a test: a copy of this folder is put under ``custom_nodes``.
"""

import os
import time


class CheckSteps:
    """Passes its image on after some steps, each reported; an interruption stops it between two.

    ``ledger`` names a file that gets a line ``begin MARK`` at the start and ``end MARK`` at the end
    of each run: what really ran, as seen by the service. A ``nonce`` keeps it out of the cache.
    """

    CATEGORY = "checks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 1, "min": 0, "max": 100_000}),
                "seconds": ("FLOAT", {"default": 0.0, "min": 0.0, "max": 60.0}),
            },
            "optional": {
                "nonce": ("INT", {"default": 0, "min": 0, "max": 2**31 - 1}),
                "mark": ("STRING", {"default": ""}),
                "ledger": ("STRING", {"default": ""}),
            },
        }

    def run(self, image, steps, seconds, nonce=0, mark="", ledger=""):
        from comfy.utils import ProgressBar

        note(ledger, "begin", mark)
        bar = ProgressBar(steps)
        for _ in range(steps):
            time.sleep(seconds)
            bar.update(1)  # raises where the run was interrupted
        note(ledger, "end", mark)
        return (image,)


class CheckRaise:
    """Raises; SystemExit ends the thread that works the queue, with ComfyUI looking well."""

    CATEGORY = "checks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    KINDS = {kind.__name__: kind for kind in (ValueError, RuntimeError, MemoryError, SystemExit)}

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "kind": (list(cls.KINDS),),
                "message": ("STRING", {"default": "asked to fail"}),
            }
        }

    def run(self, image, kind, message):
        raise self.KINDS[kind](message)


class CheckText:
    """A picture whose colour is the number of characters of a text, red the highest byte."""

    CATEGORY = "checks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text):
        import torch

        colour = [len(text) >> shift & 0xFF for shift in (16, 8, 0)]
        return (torch.tensor(colour).float().expand(1, 8, 8, 3) / 255.0,)


class CheckCuda:
    """Works on a GPU and passes its image on, or does what GPUs are lost by.

    ``product`` multiplies matrices and inverts the image there; ``hold`` keeps so many GiB for as
    long as ComfyUI lives; ``exhaust`` asks for twice what there is; ``spoil`` reads out of bounds,
    after which each further call of CUDA in this process fails.
    """

    CATEGORY = "checks"
    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    HELD = []

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "action": (["product", "hold", "exhaust", "spoil"],),
                "gib": ("INT", {"default": 1, "min": 0, "max": 1024}),
            },
            "optional": {"nonce": ("INT", {"default": 0, "min": 0, "max": 2**31 - 1})},
        }

    def run(self, image, action, gib, nonce=0):
        import torch

        def taken(size):
            return torch.zeros(size, dtype=torch.uint8, device="cuda")

        if action == "hold":
            self.HELD.append(taken(gib << 30))
        elif action == "exhaust":
            taken(2 * torch.cuda.mem_get_info()[1])
        elif action == "spoil":
            taken(4)[torch.tensor([1 << 20], device="cuda")].cpu()
        else:
            square = torch.rand(4096, 4096, device="cuda")
            assert torch.isfinite(square @ square).all()
        return ((1.0 - image.cuda()).cpu(),)


def note(ledger, word, mark):
    """One line, whole or not at all, whoever else writes."""
    if ledger:
        book = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(book, f"{word} {mark}\n".encode())
        finally:
            os.close(book)


NODE_CLASS_MAPPINGS = {one.__name__: one for one in (CheckSteps, CheckRaise, CheckText, CheckCuda)}
