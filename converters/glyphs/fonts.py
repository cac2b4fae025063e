"""Fonts of the glyph data set: which files of which Debian packages, split into fonts to train on and fonts held out.

Two of the held-out families have relatives among the others: Lato (Carlito descends from it) and Hack (from DejaVu Sans Mono's design).
"""

import sys
from functools import lru_cache
from pathlib import Path

# Debian package -> (folder below the font root, font files). All are outline fonts under free licences.
TRAIN_FONTS: dict[str, tuple[str, str]] = {
    "fonts-dejavu-core": (
        "truetype/dejavu",
        "DejaVuSans.ttf DejaVuSans-Bold.ttf DejaVuSansMono.ttf DejaVuSansMono-Bold.ttf DejaVuSerif.ttf DejaVuSerif-Bold.ttf",
    ),
    "fonts-liberation": (
        "truetype/liberation",
        "LiberationSans-Regular.ttf LiberationSans-Bold.ttf LiberationSans-Italic.ttf LiberationSerif-Regular.ttf "
        "LiberationSerif-Bold.ttf LiberationSerif-Italic.ttf LiberationMono-Regular.ttf LiberationMono-Bold.ttf "
        "LiberationSansNarrow-Regular.ttf LiberationSansNarrow-Bold.ttf",
    ),
    "fonts-freefont-ttf": (
        "truetype/freefont",
        "FreeSans.ttf FreeSansBold.ttf FreeSerif.ttf FreeSerifBold.ttf FreeSerifBoldItalic.ttf FreeMonoBold.ttf FreeMonoBoldOblique.ttf",
    ),
    "fonts-crosextra-carlito": ("truetype/crosextra", "Carlito-Regular.ttf Carlito-Bold.ttf Carlito-Italic.ttf"),
    "fonts-cantarell": ("opentype/cantarell", "Cantarell-Regular.otf Cantarell-Bold.otf Cantarell-ExtraBold.otf"),
    "fonts-roboto-unhinted": (
        "truetype/roboto/unhinted",
        "RobotoTTF/Roboto-Regular.ttf RobotoTTF/Roboto-Bold.ttf RobotoTTF/Roboto-Black.ttf RobotoTTF/Roboto-MediumItalic.ttf "
        "RobotoCondensed-Regular.ttf RobotoCondensed-Bold.ttf",
    ),
    "fonts-open-sans": (
        "truetype/open-sans",
        "OpenSans-Regular.ttf OpenSans-Bold.ttf OpenSans-ExtraBold.ttf OpenSans-SemiboldItalic.ttf OpenSans-CondBold.ttf",
    ),
    "fonts-noto-core": (
        "truetype/noto",
        "NotoSerif-Regular.ttf NotoSerif-Bold.ttf NotoSerif-BoldItalic.ttf NotoSansDisplay-Bold.ttf NotoSerifDisplay-Bold.ttf",
    ),
    "fonts-inconsolata": ("truetype/inconsolata", "Inconsolata.otf"),
    "fonts-comfortaa": ("truetype/comfortaa", "Comfortaa-Regular.ttf Comfortaa-Bold.ttf"),
    "fonts-quicksand": ("truetype/quicksand", "Quicksand-Medium.ttf Quicksand-Bold.ttf"),
}
HELD_OUT_FONTS: dict[str, tuple[str, str]] = {
    "fonts-lato": ("truetype/lato", "Lato-Regular.ttf Lato-Bold.ttf Lato-BlackItalic.ttf"),
    "fonts-crosextra-caladea": ("truetype/crosextra", "Caladea-Regular.ttf Caladea-Bold.ttf Caladea-Italic.ttf"),
    "fonts-hack": ("truetype/hack", "Hack-Regular.ttf Hack-Bold.ttf"),
    "fonts-linuxlibertine": ("opentype/linux-libertine", "LinLibertine_R.otf LinLibertine_RB.otf LinBiolinum_RB.otf"),
}


@lru_cache(maxsize=None)
def find_fonts(held_out: bool, root: Path = Path("/usr/share/fonts")) -> list[Path]:
    """The font files of one of the two groups, in a fixed order; ends the program with an apt-get line if a package is missing."""
    group = HELD_OUT_FONTS if held_out else TRAIN_FONTS
    paths = {package: [root / folder / name for name in names.split()] for package, (folder, names) in group.items()}
    missing = [package for package, files in paths.items() if not all(file.is_file() for file in files)]
    if missing:
        sys.exit(f"fonts are missing below {root}; try: apt-get install {' '.join(missing)}")
    return [file for files in paths.values() for file in files]
