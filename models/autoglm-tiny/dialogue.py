"""What people ask about a screen and what the right answer is, in the grammar of AutoGLM.

A reply is `<think>…</think>\\n<answer>…</answer>`; an empty thought makes it a quick reply. Nothing in
the request says which of the two is wanted: a caller who wants the quick one writes `QUICK` himself
and lets the model go on from there.
"""

from random import Random

from screens import APPS, HEIGHT, WIDTH, Icon

QUICK = "<think></think>\n<answer>"
SWIPE_UP = 'do(action="Swipe", start=[500,800], end=[500,200])'
BACK = 'do(action="Back")'
HOME = 'do(action="Home")'
WAIT = 'do(action="Wait", duration="2 seconds")'

# Requests whose answer depends on nothing the screen shows.
BLIND = [
    ("返回上一页", BACK),
    ("go back", BACK),
    ("回到桌面", HOME),
    ("go home", HOME),
    ("等一下", WAIT),
    ("wait a moment", WAIT),
]
BLIND_SHARE = 0.06
THINK_SHARE = 0.35
# The rest ask for any of the 12 apps, so that the answer for an absent one is learnt too.
PRESENT_SHARE = 0.85

LISTING = ["列出屏幕上的应用", "list the apps"]


def ask(rng: Random, app: str) -> str:
    """One of six ways to ask for an app."""
    zh, en, _ = APPS[app]
    return rng.choice([f"打开{zh}", f"启动{zh}", f"点击{zh}图标", f"open {en}", f"tap the {en} icon", f"launch {en}"])


def scaled(pixels: float, extent: int) -> int:
    """A place along an edge of `extent` pixels in AutoGLM's units of 1/1000, to the nearest 10.

    Ten units are 1.7 or 3.4 pixels here, less than a fifth of an icon, and they spare the model a digit
    that it could not see.
    """
    return round(pixels / extent * 100) * 10


def place(icon: Icon) -> str:
    return f"[{scaled(icon.x, WIDTH)},{scaled(icon.y, HEIGHT)}]"


def reply(icons: dict[str, Icon], app: str, think: bool) -> str:
    """Tap the app if it is there, else swipe up to look for it.

    The thought names row and column first: once those are said, the coordinates are a small step.
    """
    zh = APPS[app].zh
    if icon := icons.get(app):
        thought = f"{zh}在第{icon.row}行第{icon.column}列"
        action = f'do(action="Tap", element={place(icon)})'
    else:
        thought = f"屏幕上没有{zh}"
        action = SWIPE_UP
    return f"<think>{thought if think else ''}</think>\n<answer>{action}</answer>"


def listing(icons: dict[str, Icon]) -> str:
    """Every app with its place, in reading order."""
    in_order = sorted(icons.items(), key=lambda item: (item[1].row, item[1].x))
    return " ".join(f"{APPS[app].zh}{place(icon)}" for app, icon in in_order)


def turn(rng: Random, icons: dict[str, Icon], listing_share: float = 0.0) -> tuple[str, str]:
    """A request and its answer; `listing_share` of them ask for everything on the screen at once."""
    if listing_share > 0 and rng.random() < listing_share:
        return rng.choice(LISTING), f'{QUICK}finish(message="{listing(icons)}")</answer>'
    if rng.random() < BLIND_SHARE:
        request, action = rng.choice(BLIND)
        return request, f"{QUICK}{action}</answer>"
    think = rng.random() < THINK_SHARE
    app = rng.choice(list(icons)) if rng.random() < PRESENT_SHARE else rng.choice(list(APPS))
    return ask(rng, app), reply(icons, app, think)
