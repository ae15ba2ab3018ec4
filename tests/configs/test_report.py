import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from configs.report.charts import MAX_POINTS, Curve, SuccessBar, curve_chart, nice_ticks, success_chart
from configs.report.document import (
    CurvesSection,
    FactsSection,
    SettingsSection,
    SuccessSection,
    VideosSection,
    read_curves,
    write_report,
)
from configs.report.video import Video, animated_webp

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Collects addresses and text, and checks that every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.addresses, self.text, self.tags = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def video(success=True, instruction="lift the red cube"):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    frames[1, :, :, 0] = 255
    frames[2, :, :, 1] = 255
    return Video(frames=frames, seconds_per_frame=0.1, task="pick", instruction=instruction, seed=17, success=success)


@pytest.fixture
def page(tmp_path):
    path = tmp_path / "deep" / "report.html"
    curve = Curve(name="loss", steps=(1, 2, 3), values=(3.0, float("nan"), 1.0))
    sections = [
        SuccessSection(
            bars=(SuccessBar(task="pick", condition="policy", value=0.94, lo=0.838, hi=0.979, episodes=50),)
        ),
        CurvesSection(charts={"loss": [curve], "empty <metric>": []}),
        VideosSection(videos=(video(), video(success=False, instruction='<script>alert("x")</script>'))),
        FactsSection(title="Machine & versions", facts={"cores": 2, "<b>": "a & b"}),
        SettingsSection(config={"steps": 3, "note": "</pre><script>"}),
    ]
    write_report(path, "Pick <1>", sections, lead="one & two")
    parsed = Page()
    parsed.feed(path.read_text())
    parsed.source = path.read_text()
    return parsed


def test_the_page_is_well_formed_and_self_contained(page):
    assert page.open == []
    assert page.addresses and all(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert "script" not in page.tags and "link" not in page.tags and "iframe" not in page.tags
    assert not re.search(r"@import|url\(|https?://", page.source)


def test_the_page_shows_the_numbers_and_escapes_text(page):
    text = " ".join(page.text)
    for expected in ("94.0%", "83.8% … 97.9%", "50", "success", "failure", "seed 17", "lift the red cube", "Pick <1>"):
        assert expected in text
    assert '<script>alert("x")</script>' in text and "a & b" in text
    assert "empty <metric>: no finite values were recorded." in text


def test_bars_and_whiskers_are_drawn_to_scale():
    bar = SuccessBar(task="pick", condition="policy", value=0.5, lo=0.25, hi=0.75, episodes=10)
    svg = success_chart([bar])
    start, width = (float(re.search(rf'<rect[^>]* {name}="([\d.]+)"', svg)[1]) for name in ("x", "width"))
    whisker = re.search(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)M', svg)
    assert float(whisker[1]) == pytest.approx(start + width / 2)
    assert float(whisker[2]) == pytest.approx(start + width * 1.5)


def test_long_curves_keep_their_mean_in_few_points():
    steps = tuple(range(10_000))
    svg = curve_chart("loss", [Curve(name="loss", steps=steps, values=tuple(float(s % 2) for s in steps))])
    path = re.search(r'class="line0" d="M([^"]+)"', svg)[1].split("L")
    assert 100 < len(path) <= MAX_POINTS
    heights = {point.split()[1] for point in path}
    assert len(heights) == 1


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (-3.2, 17.9), (1e-5, 2e-5), (5.0, 5.0), (0.0, 0.0), (1000, 1001)]
)
def test_ticks_enclose_the_range(low, high):
    ticks = nice_ticks(low, high, 5)
    assert 2 <= len(ticks) <= 9
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])


def test_a_video_keeps_its_frames_and_rests_on_the_last():
    picture = Image.open(io.BytesIO(animated_webp(video())))
    assert (picture.format, picture.n_frames, picture.size) == ("WEBP", 3, (8, 8))
    durations, colours = [], []
    for index in range(3):
        picture.seek(index)
        picture.load()
        durations.append(picture.info["duration"])
        colours.append(np.asarray(picture.convert("RGB")).mean((0, 1)).argmax())
    assert durations[:2] == [100, 100] and durations[2] > 1000
    assert colours[1:] == [0, 1]


def test_frames_of_another_kind_are_refused():
    floats = Video(
        frames=np.zeros((2, 8, 8, 3), np.float32), seconds_per_frame=1, task="", instruction="", seed=0, success=True
    )
    with pytest.raises(ValueError, match=r"uint8 frames \(t, h, w, 3\), got float32"):
        animated_webp(floats)


def test_curves_are_read_up_to_a_line_that_was_cut(tmp_path):
    assert read_curves(tmp_path) == {}
    lines = [json.dumps({"step": step, "loss": 1.0 / step, "note": "x"}) for step in (1, 2)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 3, "lo')
    assert read_curves(tmp_path) == {"loss": [Curve(name="loss", steps=(1, 2), values=(1.0, 0.5))]}
    (tmp_path / "metrics.jsonl").write_text('{"step": \n' + "\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1 is not JSON"):
        read_curves(tmp_path)


def test_bounds_are_drawn_with_what_they_bound(tmp_path):
    line = {"step": 1, "success/reach": 0.5, "success/reach_lo": 0.2, "success/reach_hi": 0.8, "depth_lo": 1.0}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    charts = read_curves(tmp_path)
    assert list(charts) == ["success/reach", "depth_lo"]
    assert [curve.name for curve in charts["success/reach"]] == [
        "success/reach",
        "success/reach_lo",
        "success/reach_hi",
    ]


def test_the_picture_in_the_page_is_the_webp(page):
    data = base64.b64decode(page.addresses[0].partition(",")[2])
    assert data == animated_webp(video())
