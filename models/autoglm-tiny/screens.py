"""Draws synthetic phone home screens and says where each app's icon is.

`screen(random.Random(seed))` is a pure function of the generator's state: the same seed gives the
same pixels. A screen has a status bar, a background that fades from one colour to another, and 5 to
11 of the 12 apps, scattered over a grid of 4 columns and 6 rows with a little jitter in place, size
and colour. There is no text on it: an app is known by its colour and its glyph.
"""

from pathlib import Path
from random import Random
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

# Both are multiples of 28, so that the image processor leaves every pixel where it is.
WIDTH, HEIGHT = 168, 336
COLUMNS, ROWS = 4, 6
CELL_WIDTH, CELL_HEIGHT = 42, 50
# The first row of icons starts below the status bar.
TOP = 15
STATUS_BAR = 10

WHITE = (255, 255, 255)
BLACK = (0, 0, 0)
Colour = tuple[int, int, int]


class App(NamedTuple):
    zh: str
    en: str
    colour: Colour


class Icon(NamedTuple):
    """A square of `2 * half` pixels around (x, y), in pixels from the top left corner."""

    x: int
    y: int
    half: float

    @property
    def box(self) -> list[float]:
        """[left, top, right, bottom]; edges belong to the icon."""
        return [self.x - self.half, self.y - self.half, self.x + self.half, self.y + self.half]

    def holds(self, x: float, y: float) -> bool:
        return abs(x - self.x) <= self.half and abs(y - self.y) <= self.half

    @property
    def column(self) -> int:
        """Counted from 1, left to right."""
        return self.x // CELL_WIDTH + 1

    @property
    def row(self) -> int:
        """Counted from 1, top to bottom."""
        return (self.y - TOP) // CELL_HEIGHT + 1


APPS = {
    "camera": App("相机", "camera", (70, 70, 80)),
    "calendar": App("日历", "calendar", (230, 60, 60)),
    "maps": App("地图", "maps", (60, 170, 90)),
    "music": App("音乐", "music", (240, 80, 150)),
    "settings": App("设置", "settings", (130, 135, 145)),
    "phone": App("电话", "phone", (50, 190, 70)),
    "messages": App("短信", "messages", (40, 130, 240)),
    "weather": App("天气", "weather", (90, 180, 250)),
    "clock": App("时钟", "clock", (25, 25, 35)),
    "photos": App("相册", "photos", (250, 190, 50)),
    "mail": App("邮件", "mail", (30, 90, 200)),
    "browser": App("浏览器", "browser", (150, 90, 220)),
}


def draw_glyph(draw: ImageDraw.ImageDraw, app: str, x: int, y: int, h: float) -> None:
    """The white sign in the middle of an icon, at most `h` pixels from (x, y) in each direction."""
    square = (x - h, y - h, x + h, y + h)
    match app:
        case "camera":
            draw.ellipse(square, outline=WHITE, width=3)
        case "calendar":
            for line in (-1, 0, 1):
                level = y + line * h * 0.7
                draw.line((x - h, level, x + h, level), fill=WHITE, width=2)
        case "maps":
            draw.polygon([(x, y + h), (x - h * 0.8, y - h * 0.4), (x + h * 0.8, y - h * 0.4)], fill=WHITE)
        case "music":
            stem = x - h * 0.1
            draw.ellipse((x - h, y + h * 0.2, stem, y + h), fill=WHITE)
            draw.line((stem, y + h * 0.6, stem, y - h), fill=WHITE, width=2)
            draw.line((stem, y - h, x + h * 0.8, y - h * 0.6), fill=WHITE, width=2)
        case "settings":
            draw.ellipse(square, fill=WHITE)
            draw.ellipse((x - h * 0.4, y - h * 0.4, x + h * 0.4, y + h * 0.4), fill=(60, 60, 70))
        case "phone":
            draw.arc(square, 30, 240, fill=WHITE, width=4)
        case "messages":
            draw.ellipse((x - h, y - h, x + h, y + h * 0.5), fill=WHITE)
            draw.polygon([(x - h * 0.6, y + h), (x - h * 0.5, y), (x, y + h * 0.2)], fill=WHITE)
        case "weather":
            draw.ellipse((x - h * 0.5, y - h * 0.5, x + h * 0.5, y + h * 0.5), fill=(255, 230, 90))
            draw_cross(draw, x, y, h)
        case "clock":
            draw.line((x, y, x, y - h), fill=WHITE, width=2)
            draw.line((x, y, x + h * 0.8, y), fill=WHITE, width=2)
        case "photos":
            draw.polygon([(x - h, y + h), (x - h * 0.1, y - h * 0.6), (x + h, y + h)], fill=WHITE)
        case "mail":
            draw.rectangle((x - h, y - h * 0.7, x + h, y + h * 0.7), outline=WHITE, width=2)
            draw.line((x - h, y - h * 0.7, x, y + h * 0.2, x + h, y - h * 0.7), fill=WHITE, width=2)
        case "browser":
            draw.ellipse(square, outline=WHITE, width=2)
            draw_cross(draw, x, y, h)
        case _:
            raise ValueError(f"no glyph is known for `{app}`")


def draw_cross(draw: ImageDraw.ImageDraw, x: int, y: int, h: float) -> None:
    draw.line((x - h, y, x + h, y), fill=WHITE)
    draw.line((x, y - h, x, y + h), fill=WHITE)


def draw_background(draw: ImageDraw.ImageDraw, top: Colour, bottom: Colour) -> None:
    for y in range(HEIGHT):
        t = y / HEIGHT
        draw.line((0, y, WIDTH, y), fill=tuple(int(a + (b - a) * t) for a, b in zip(top, bottom)))
    draw.rectangle((0, 0, WIDTH, STATUS_BAR), fill=BLACK)
    draw.rectangle((140, 3, 160, 7), fill=WHITE)  # the battery


def screen(rng: Random) -> tuple[Image.Image, dict[str, Icon]]:
    """A home screen, and its icons by the key of their app.

    The order in which numbers are drawn from `rng` is part of the promise: the weights were trained
    on this stream, and a seed that is written down anywhere means these very pixels.
    """
    top, bottom = [tuple(rng.randrange(20, 236) for _ in range(3)) for _ in range(2)]
    image = Image.new("RGB", (WIDTH, HEIGHT))
    draw = ImageDraw.Draw(image)
    draw_background(draw, top, bottom)

    cells = [(column, row) for row in range(ROWS) for column in range(COLUMNS)]
    rng.shuffle(cells)
    apps = rng.sample(list(APPS), rng.randrange(5, 12))
    icons = {}
    for app, (column, row) in zip(apps, cells):
        size = rng.randrange(22, 31)
        x = CELL_WIDTH // 2 + column * CELL_WIDTH + rng.randrange(-4, 5)
        y = TOP + CELL_HEIGHT // 2 + row * CELL_HEIGHT + rng.randrange(-6, 7)
        colour = tuple(min(255, max(0, value + rng.randrange(-12, 13))) for value in APPS[app].colour)
        icon = icons[app] = Icon(x, y, size / 2)
        draw.rounded_rectangle(icon.box, radius=6, fill=colour)
        draw_glyph(draw, app, x, y, size * 0.3)
    return image, icons


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG, unless the file already shows these very pixels.

    Another release of zlib may pack the same pixels into other bytes; a file that is right is left
    alone, so that making the pictures again changes nothing.
    """
    if not shows(path, image):
        image.save(path, optimize=True)


def shows(path: Path, image: Image.Image) -> bool:
    """Whether the file exists and holds exactly the pixels of `image`."""
    if not path.exists():
        return False
    with Image.open(path) as there:
        return there.mode == image.mode and np.array_equal(np.asarray(there), np.asarray(image))
