"""Pictures within a page."""

import base64
import io

from PIL import Image


def data_url(image: Image.Image) -> str:
    """A picture as an address that holds it, so that a page loads nothing."""
    held = io.BytesIO()
    image.convert("RGB").save(held, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(held.getvalue()).decode()}"
