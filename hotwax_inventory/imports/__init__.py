"""Stage 2: landed files become typed rows, and refused rows with reasons."""
