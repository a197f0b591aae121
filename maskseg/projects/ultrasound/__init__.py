"""The nerve in ultrasound images, by a U-Net."""
