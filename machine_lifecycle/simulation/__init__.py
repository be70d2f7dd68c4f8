"""A simulated GPU service that speaks ComfyUI's protocol and renders real pictures."""
