"""The picture of an SVG, as a program of its own: python rendered.py WIDTH HEIGHT BACKGROUND < svg > png."""

import sys

import resvg_py

if __name__ == "__main__":
    width, height, background = sys.argv[1:]
    size = {"width": int(width), "height": int(height), "dpi": 96}
    drawn = resvg_py.svg_to_bytes(svg_string=sys.stdin.read(), background=background, skip_system_fonts=True, **size)
    sys.stdout.buffer.write(bytes(drawn))
