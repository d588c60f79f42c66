"""The shipped reference models: GGUF files, their manifest, scores and model card."""
