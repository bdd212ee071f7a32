"""Small pictures on the asset pages, where one says more than a table."""

from base64 import b64encode
from collections.abc import Sequence

import dagster as dg

WIDTH, HEIGHT = 640, 260


def bar_chart(title: str, bars: Sequence[tuple[str, float]]) -> dg.MarkdownMetadataValue:
    """A bar for each name and number, as a picture within Markdown. The names are ours, never a file's."""
    # only runs that draw something load it
    import pygal
    from pygal.style import CleanStyle

    style = CleanStyle(font_family="sans-serif", colors=("#4f43dd",))
    chart = pygal.Bar(
        style=style,
        width=WIDTH,
        height=HEIGHT,
        explicit_size=True,
        js=[],
        show_legend=False,
        title=title,
        margin=10,
        spacing=4,
    )
    chart.x_labels = [name for name, _ in bars]
    chart.add(title, [number for _, number in bars])
    picture = b64encode(chart.render()).decode()
    said = ", ".join(f"{name}: {number:,}" for name, number in bars)
    return dg.MetadataValue.md(f"![{title}: {said}](data:image/svg+xml;base64,{picture})")
